create type credits.refund_stage as enum (
  'unknown', -- Stripe has a word for it that is newer than this list; it counts as money that went
  'pending',
  'requires_action',
  'succeeded',
  'failed', -- also after it had succeeded
  'canceled'
);

comment on type credits.refund_stage is
'How far a refund has come. The order is that of knowledge: a later message only ever raises it.';
