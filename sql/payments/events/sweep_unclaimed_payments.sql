create function credits.sweep_unclaimed_payments(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  -- Variables, so that the indexes find what is older.
  before timestamptz := credits.now() - credits.unclaimed_retention();
  ignored_before timestamptz := credits.now() - (select s.stripe_payload_retention from credits.billing_settings as s);
  payment text;
  part integer;
  forgotten integer := 0;
begin
  for payment in
    select p.payment_intent_id from credits.stripe_payments as p
    where p.purchase_id is null and p.received_at < before
    order by p.received_at
    limit batch
  loop
    -- Whoever deals with it now may be about to find its purchase; and is not waited for.
    continue when not pg_try_advisory_xact_lock(hashtextextended(payment, 0));
    delete from credits.stripe_payments as p where p.payment_intent_id = payment and p.purchase_id is null;
    continue when not found;
    delete from credits.stripe_refunds as r where r.payment_intent_id = payment;
    delete from credits.stripe_disputes as d where d.payment_intent_id = payment;
    delete from credits.stripe_fraud_warnings as w where w.payment_intent_id = payment;
    delete from credits.stripe_balance_transactions as b where b.payment_intent_id = payment;
    forgotten := forgotten + 1;
  end loop;

  delete from credits.stripe_customers as c
  where c.customer_id in (
    select o.customer_id from credits.stripe_customers as o
    where o.deleted_at < before
    order by o.deleted_at
    limit batch
    for update skip locked
  );
  get diagnostics part = row_count;
  forgotten := forgotten + part;

  delete from credits.stripe_events as e
  where e.id in (
    select o.id from credits.stripe_events as o
    where o.status = 'ignored' and o.received_at < ignored_before
    order by o.received_at
    limit batch
    for update skip locked
  );
  get diagnostics part = row_count;
  return forgotten + part;
end
$$;

comment on function credits.sweep_unclaimed_payments(integer) is
'Forgets what turned out to be none of our business, up to batch of each kind, so that another app on the same Stripe '
'account fills no table: payments that no purchase has claimed for credits.unclaimed_retention, with their refunds, '
'disputes, warnings and fees; customers that were deleted so long ago; events that were ignored '
'billing_settings.stripe_payload_retention ago. Returns how many. What comes again is kept, or ignored, again.';
