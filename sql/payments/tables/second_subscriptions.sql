create table credits.second_subscriptions (
  account_id uuid not null,
  subscription_id text not null,
  first_id text not null,
  noticed_at timestamptz not null default clock_timestamp(),
  claimed_until timestamptz,
  outcome text,
  note text,
  closed_at timestamptz,
  constraint second_subscriptions_pkey primary key (account_id, subscription_id),
  constraint second_subscriptions_subscription_id_fkey foreign key (account_id, subscription_id)
  references public.subscriptions (account_id, id),
  constraint second_subscriptions_first_id_fkey foreign key (account_id, first_id)
  references public.subscriptions (account_id, id),
  constraint outcome_must_be_refunded_kept_or_dismissed check (outcome in ('refunded', 'kept', 'dismissed')),
  constraint closed_ones_must_have_an_outcome check ((closed_at is null) = (outcome is null)),
  constraint note_must_have_1_to_1000_characters check (char_length(btrim(note)) between 1 and 1000)
);

create index second_subscriptions_open on credits.second_subscriptions (noticed_at) where closed_at is null;
create index second_subscriptions_first_id on credits.second_subscriptions (account_id, first_id);

alter table credits.second_subscriptions enable row level security;
alter table credits.second_subscriptions force row level security;
revoke all on table credits.second_subscriptions from anon, authenticated, service_role;

comment on table credits.second_subscriptions is
'Subscriptions that were paid while the account had one already. Their credits are taken back as they come; they are '
'cancelled in Stripe, and what was paid for them is refunded.';
comment on column credits.second_subscriptions.subscription_id is 'subscriptions.id of the one that came second.';
comment on column credits.second_subscriptions.account_id is 'credit_accounts.id.';
comment on column credits.second_subscriptions.first_id is 'subscriptions.id of the one that stays.';
comment on column credits.second_subscriptions.claimed_until is
'Until when a process that deals with it keeps the others away; null for none.';
comment on column credits.second_subscriptions.outcome is
'refunded: cancelled, and nothing of its payments is left to refund. kept: the first had ended, so that it counts and '
'has its credits. dismissed: a person says that it is settled. Null while it is to be dealt with.';
comment on column credits.second_subscriptions.note is 'What a person said about it.';
comment on column credits.second_subscriptions.closed_at is 'When it had been dealt with.';
