create function credits.grant_invoice(account_id uuid, purchase_id bigint, invoice jsonb) returns void
language plpgsql
set search_path = ''
as $$
declare
  part record;
  most bigint;
  had_trial boolean;
begin
  -- Decided here, under the account's lock: several checkouts with a trial may have been open at once.
  select exists(
    select from credits.accounts_of_mailbox(grant_invoice.account_id) as m (account_id)
    inner join public.credit_transactions as t on m.account_id = t.account_id
    where t.idempotency_key in ('sys:stripe:trial', 'sys:stripe:trial:rollover')
  ) into had_trial;
  select s.max_grant into most from credits.billing_settings as s;
  for part in
    select g.* from credits.invoice_grants_and_rollover(invoice) as g order by g.expires_at, g.key
  loop
    if part.is_trial and had_trial then
      continue;
    elsif part.is_proration and abs(part.credits) > most then
      perform credits.fail(
        'PT422', 'A proration of the invoice is out of range.',
        jsonb_build_object('plan', part.plan, 'credits', part.credits, 'limit', most),
        'The limit is billing_settings.max_grant.'
      );
    end if;
    update public.purchases as p set period_end = greatest(p.period_end, part.period_end)
    where p.account_id = grant_invoice.account_id and p.id = purchase_id and part.credits > 0;
    if part.is_monthly and not part.is_proration then
      perform credits.open_allotment(
        account_id, purchase_id, part.key, part.credits, part.period_start, part.period_end, part.rollover,
        part.rollover_cap, part.priority, part.cost_basis
      );
      continue;
    elsif part.is_monthly then
      select c.credits, c.expires_at, c.cost_basis into part.credits, part.expires_at, part.cost_basis
      from credits.change_allotments(
        account_id, purchase_id, part.key, part.period_start, part.period_end, part.credits, part.cost_basis
      ) as c;
      update public.purchases as p set period_end = greatest(p.period_end, part.period_end)
      where p.account_id = grant_invoice.account_id and p.id = purchase_id and part.credits > 0;
    end if;
    if part.credits > 0 then
      perform credits.grant_purchase(
        account_id, purchase_id, part.credits, 'subscription', part.expires_at, part.priority, part.key,
        part.cost_basis
      );
    elsif part.credits < 0 then
      insert into credits.subscription_debts (
        purchase_id, account_id, subscription_id, period_start, period_end, amount, owed
      )
      select p.id, p.account_id, p.subscription_id, part.period_start, part.period_end, -part.credits, 0
      from public.purchases as p
      where p.account_id = grant_invoice.account_id and p.id = grant_invoice.purchase_id;
    end if;
  end loop;
end
$$;

comment on function credits.grant_invoice(uuid, bigint, jsonb) is
'Grants what a paid invoice brings, a trial once per address, and notes what a downgrade takes. The caller holds the '
'account''s lock. PT422 for a proration beyond billing_settings.max_grant.';
