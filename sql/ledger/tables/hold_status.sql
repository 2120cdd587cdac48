create type public.hold_status as enum (
  'held', -- open; becomes one of the others, once
  'captured', -- used, wholly or in part
  'released', -- given back by release_hold
  'expired' -- its time ran out
);

comment on type public.hold_status is 'The life of a hold.';
