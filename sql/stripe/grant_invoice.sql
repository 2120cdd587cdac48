create function credits.grant_invoice(purchase_id bigint, invoice jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  part record;
begin
  for part in
    select g.* from credits.invoice_grants(invoice) as g order by g.expires_at, g.key
  loop
    if part.credits > 0 then
      perform credits.grant_purchase(
        purchase_id, part.credits, 'subscription', part.expires_at, part.priority, part.key
      );
      update public.purchases as p set period_end = greatest(p.period_end, part.period_end) where p.id = purchase_id;
    else
      insert into credits.subscription_debts (purchase_id, subscription_id, period_end, owed)
      select p.id, p.subscription_id, part.period_end, -part.credits
      from public.purchases as p
      where p.id = grant_invoice.purchase_id;
    end if;
  end loop;
end
$$;

comment on function credits.grant_invoice(bigint, jsonb) is
'Grants what a paid invoice brings, and notes what a downgrade takes. The caller holds the account''s lock.';
