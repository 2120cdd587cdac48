create function credits.freeze_for_disputes(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  payments text[];
  is_new boolean;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = freeze_for_disputes.account_id and p.id = purchase_id;
  -- Most accounts have neither. And what they are frozen for then is no dispute of theirs: that stays.
  if
    not exists (select from credits.stripe_disputes as d where d.account_id = purchase.account_id)
    and not exists (
      select from credits.stripe_payments as c
      where
        c.account_id = purchase.account_id
        and c.purchase_id = purchase.id
        and (
          exists (select from credits.stripe_disputes as d where d.payment_intent_id = c.payment_intent_id)
          or exists (select from credits.stripe_fraud_warnings as w where w.payment_intent_id = c.payment_intent_id)
        )
    )
  then
    return;
  end if;
  payments := credits.purchase_payments(purchase);

  update credits.stripe_disputes as d set account_id = purchase.account_id
  where d.payment_intent_id = any(payments) and d.account_id is null;

  with new_disputes as (
    update credits.stripe_disputes as d set froze_at = credits.now()
    where d.account_id = purchase.account_id and d.standing and d.froze_at is null
    returning d.id
  )

  select exists(select from new_disputes) into is_new;

  if is_new then
    update public.credit_accounts as a
    set
      frozen_at = credits.now(),
      frozen_by = 'dispute',
      frozen_reason = 'A payment of this account is disputed.',
      updated_at = credits.now()
    where a.id = purchase.account_id and a.frozen_at is null;
    perform credits.pass_freeze(purchase.account_id);
  elsif not credits.is_disputed(purchase.account_id) then
    update public.credit_accounts as a
    set frozen_at = null, frozen_by = null, frozen_reason = null, updated_at = credits.now()
    where a.id = purchase.account_id and a.frozen_by = 'dispute';
    perform credits.pass_thaw(purchase.account_id);
  end if;

  with new_warnings as (
    update credits.stripe_fraud_warnings as w
    set account_id = purchase.account_id, froze_at = case when w.freezes then credits.now() end
    where w.payment_intent_id = any(payments) and w.account_id is null
    returning w.freezes
  )

  update public.credit_accounts as a
  set
    frozen_at = credits.now(),
    frozen_by = 'fraud_warning',
    frozen_reason = 'The issuer of a card that paid for this account warned of fraud.',
    updated_at = credits.now()
  where
    a.id = purchase.account_id
    -- What a dispute froze, it would unfreeze again once it is won.
    and (a.frozen_at is null or a.frozen_by = 'dispute')
    and exists (select from new_warnings as w where w.freezes);
  if found then
    perform credits.pass_freeze(purchase.account_id, 'dispute');
  end if;
end
$$;

comment on function credits.freeze_for_disputes(uuid, bigint) is
'Freezes the account of a purchase at each new dispute, and unfreezes it once none stands (see is_disputed), unless '
'something else froze it; so for the successor of a deleted user''s account. Freezes it at each new warning of fraud '
'that says so, until an operator unfreezes it. The caller holds the account''s lock.';
