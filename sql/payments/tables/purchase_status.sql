create type public.purchase_status as enum (
  'pending', -- checked out, money under way
  'failed', -- the payment failed; an invoice can still be paid
  'expired', -- abandoned, or its invoice was given up
  'paid' -- final: its credits are granted
);

comment on type public.purchase_status is
'The state of a payment. The order is that of knowledge: a later message only ever raises it.';
