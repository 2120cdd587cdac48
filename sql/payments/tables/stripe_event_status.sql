create type credits.stripe_event_status as enum (
  'applied', -- its effects are in the same transaction as its row
  'ignored', -- none of our business
  'quarantined', -- not what this project may read: wrong mode, account or version, or unreadable; kept for a person
  'failed', -- read, but a rule refused its effects; tried again by Stripe's retries and by retry_stripe_events
  'dismissed' -- was quarantined or failed; a person decided that it shall have no effect. Final
);

comment on type credits.stripe_event_status is 'What became of a Stripe event.';
