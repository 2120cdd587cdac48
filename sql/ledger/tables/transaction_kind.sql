create type public.transaction_kind as enum (
  'grant', -- credits come in and make a lot
  'spend', -- consume_credits
  'capture', -- a hold is used
  'refund', -- credits of a spend, capture or clawback go back
  'clawback', -- granted credits are taken back, below zero if need be
  'expiry' -- what was left in a lot when it expired
);

comment on type public.transaction_kind is 'Why a balance changed. Grants and refunds add, the others take.';
