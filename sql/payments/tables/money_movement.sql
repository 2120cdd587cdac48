create type credits.money_movement as enum (
  'payment', -- a charge
  'payment_failure', -- a charge that failed after it had been booked
  'refund',
  'refund_failure', -- the money of a refund comes back
  'dispute' -- withdrawn (amount below 0) or reinstated
);

comment on type credits.money_movement is 'What a balance transaction of Stripe''s moved money for.';
