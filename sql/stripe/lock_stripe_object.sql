create function credits.lock_stripe_object(id text) returns void
language sql
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended(id, 0));
$$;

comment on function credits.lock_stripe_object(text) is
'Until the transaction ends, one session at a time deals with this Stripe object: a refund and its purchase, told at '
'once by two messages, each see what the other wrote. Taken in the order event, invoice, payment intent; the '
'account''s lock comes last.';
