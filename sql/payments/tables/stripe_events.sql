create table credits.stripe_events (
  id text primary key,
  type text not null,
  api_version text,
  status credits.stripe_event_status not null,
  reason text,
  payload jsonb,
  attempts integer not null default 1,
  received_at timestamptz not null default clock_timestamp(),
  processed_at timestamptz not null default clock_timestamp(),
  dismissed_why text,
  dismissed_at timestamptz,
  constraint unapplied_events_must_give_a_reason check ((status = 'applied') = (reason is null)),
  constraint dismissed_events_must_say_why_and_when check (
    (status = 'dismissed') = (dismissed_why is not null) and (dismissed_why is null) = (dismissed_at is null)
  ),
  constraint dismissed_why_must_have_1_to_1000_characters check (char_length(btrim(dismissed_why)) between 1 and 1000)
);

-- What is to be tried again, the longest waiting first.
create index stripe_events_unapplied on credits.stripe_events (processed_at)
where status in ('quarantined', 'failed') and payload is not null;
create index stripe_events_problems on credits.stripe_events (received_at, id)
where status in ('quarantined', 'failed');
-- What there is to forget: one index for both, because each is a price of every event.
create index stripe_events_to_forget on credits.stripe_events (received_at)
where payload is not null or status = 'ignored';

alter table credits.stripe_events enable row level security;
alter table credits.stripe_events force row level security;
revoke all on table credits.stripe_events from anon, authenticated, service_role;

comment on table credits.stripe_events is
'Every Stripe event that was received, once, with what became of it. The row and the event''s effects are one '
'transaction. What was ignored is forgotten after billing_settings.stripe_payload_retention.';
comment on column credits.stripe_events.id is 'Stripe''s evt_… id.';
comment on column credits.stripe_events.type is 'Such as checkout.session.completed.';
comment on column credits.stripe_events.api_version is 'The version that the payload is written in.';
comment on column credits.stripe_events.reason is
'Why it is ignored, quarantined or failed, or was when it was dismissed.';
comment on column credits.stripe_events.payload is
'The event as Stripe sent it; null for what was ignored, and once billing_settings.stripe_payload_retention has passed.';
comment on column credits.stripe_events.attempts is 'How often its effects were tried.';
comment on column credits.stripe_events.dismissed_why is 'Why a person decided that it shall have no effect.';
comment on column credits.stripe_events.dismissed_at is 'When they did.';
