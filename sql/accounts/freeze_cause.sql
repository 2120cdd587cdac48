create type public.freeze_cause as enum (
  'operator', -- freeze_account: until unfreeze_account
  'dispute', -- a payment is disputed: until no dispute stands any more, or unfreeze_account
  'fraud_warning' -- a card issuer warned of fraud: until unfreeze_account
);

comment on type public.freeze_cause is
'What froze an account. Whoever took over from an account or has its address is frozen for the same cause.';
