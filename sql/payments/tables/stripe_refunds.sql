create table credits.stripe_refunds (
  id text primary key,
  payment_intent_id text not null,
  amount bigint not null,
  status credits.refund_stage not null,
  unknown_status text,
  constraint amount_must_be_0_or_more check (amount >= 0),
  constraint unknown_status_must_tell_an_unknown_one check ((status = 'unknown') = (unknown_status is not null))
);

create index stripe_refunds_payment_intent_id on credits.stripe_refunds (payment_intent_id);

alter table credits.stripe_refunds enable row level security;
alter table credits.stripe_refunds force row level security;
revoke all on table credits.stripe_refunds from anon, authenticated, service_role;

comment on table credits.stripe_refunds is
'Refunds as Stripe tells them, kept whether or not their purchase is known yet. They count from the moment they are '
'made until they fail or are canceled.';
comment on column credits.stripe_refunds.id is 'Stripe''s re_… id.';
comment on column credits.stripe_refunds.amount is 'In minor units of the payment''s currency.';
comment on column credits.stripe_refunds.status is 'The furthest that it is known to have come.';
comment on column credits.stripe_refunds.unknown_status is 'Stripe''s word for a status that is unknown here.';
