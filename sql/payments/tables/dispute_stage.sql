create type credits.dispute_stage as enum (
  'unknown', -- Stripe has a word for it that is newer than this list
  'warning_needs_response', -- an inquiry
  'warning_under_review',
  'warning_closed',
  'needs_response',
  'under_review',
  'prevented', -- no chargeback came of it
  'lost',
  'won'
);

comment on type credits.dispute_stage is
'How far a dispute has come. The order is that of knowledge: a later message only ever raises it.';
