create type public.generation_status as enum (
  'held', -- credits are reserved; no provider was asked yet
  'dispatched', -- a provider is being asked: from here on it may cost money
  'running', -- the provider works on it and gave it an id
  'unknown', -- it may or may not have reached the provider
  'succeeded', -- final: delivered and charged, wholly or in part
  'refused', -- final: against the provider's policy
  'failed', -- final: nothing was delivered
  'canceled', -- final: the user took it back in time
  'expired' -- final: its deadline passed; what the provider took for it is our loss
);

comment on type public.generation_status is 'The life of a generation job.';
