create type credits.clawback_cause as enum (
  'operator', -- a direct call of credits.claw_back
  'money_back', -- the payment of a purchase was refunded or disputed
  'downgrade', -- an invoice changed a plan for a smaller one
  'debt_taken_over', -- the debt of a deleted user's account, by its successor
  'debt_handed_back' -- from such an account, for the successor that took over its debt
);

comment on type credits.clawback_cause is 'Why granted credits were taken back.';
