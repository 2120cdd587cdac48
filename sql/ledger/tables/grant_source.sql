create type public.grant_source as enum (
  'purchase', -- a package that was paid for
  'subscription', -- a period of a plan
  'bonus', -- promotional: given at sign-up
  'referral', -- promotional
  'promo', -- promotional
  'refund' -- credits that came back when their own lot had expired
);

comment on type public.grant_source is 'Where the credits of a lot came from.';
