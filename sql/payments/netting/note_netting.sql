create function credits.note_netting(
  purchase public.purchases,
  clawed_back bigint,
  refunded bigint,
  disputed bigint,
  receipt text
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if
    (purchase.credits_clawed_back, purchase.refunded_amount, purchase.disputed_amount, purchase.receipt_url)
    is not distinct from (clawed_back, refunded, disputed, receipt)
  then
    return false;
  end if;
  update public.purchases as p
  set
    credits_clawed_back = clawed_back,
    refunded_amount = refunded,
    disputed_amount = disputed,
    receipt_url = receipt,
    updated_at = credits.now()
  where p.account_id = purchase.account_id and p.id = purchase.id;
  return true;
end
$$;

comment on function credits.note_netting(public.purchases, bigint, bigint, bigint, text) is
'Last part of credits.claw_back_share: notes on a purchase what went back, in credits and in minor units; returns '
'whether that was news.';
