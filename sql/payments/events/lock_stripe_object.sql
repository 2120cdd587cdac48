create function credits.lock_stripe_object(id text) returns void
language plpgsql
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  perform pg_advisory_xact_lock(hashtextextended(id, 0));
end
$$;

comment on function credits.lock_stripe_object(text) is
'Until the transaction ends, one session at a time deals with this Stripe object: a refund and its purchase, told at '
'once by two messages, each see what the other wrote. Taken in the order event, invoice or session, payment intent; '
'the account''s lock comes last.';
