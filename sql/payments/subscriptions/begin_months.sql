create function credits.begin_months(account_id uuid, purchase_id bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  perform credits.lock_account(account_id);
  perform credits.grant_allotments(account_id, purchase_id);
  perform credits.claw_back_share(account_id, purchase_id);
  perform credits.collect_subscription_debts(account_id);
  perform credits.end_late_grants(account_id);
end
$$;

comment on function credits.begin_months(uuid, bigint) is
'Grants the months that have begun of a period that is granted month by month, and holds its purchase against what '
'refunds and downgrades take. The caller holds the locks of the purchase''s Stripe objects.';
