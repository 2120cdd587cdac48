create table credits.dismissed_stripe_objects (
  object_id text primary key,
  why text not null,
  dismissed_at timestamptz not null default clock_timestamp(),
  constraint object_id_must_have_1_to_255_characters check (char_length(object_id) between 1 and 255),
  constraint why_must_have_1_to_1000_characters check (char_length(btrim(why)) between 1 and 1000)
);

alter table credits.dismissed_stripe_objects enable row level security;
alter table credits.dismissed_stripe_objects force row level security;
revoke all on table credits.dismissed_stripe_objects from anon, authenticated, service_role;

comment on table credits.dismissed_stripe_objects is
'Objects of Stripe''s that cannot be applied and that a person has let go: reconciliation finds them each time.';
comment on column credits.dismissed_stripe_objects.object_id is 'Stripe''s id.';
comment on column credits.dismissed_stripe_objects.why is 'Why it may have no effect.';
