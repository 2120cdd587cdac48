create function credits.refuse_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception '%.% is append-only: % is refused.', tg_table_schema, tg_table_name, tg_op
    using errcode = 'PT403', hint = 'Correct a mistake with a new row: refund, grant_credits or credits.claw_back.';
end
$$;

comment on function credits.refuse_change() is 'Refuses UPDATE, DELETE and TRUNCATE, whoever asks.';

create trigger append_only before delete on public.credit_transactions
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_transactions
for each statement execute function credits.refuse_change();

create trigger append_only before delete on credits.lot_payments
for each row execute function credits.refuse_change();
-- A payment grows while the same lot goes on paying, and never changes otherwise.
create trigger only_grows before update on credits.lot_payments
for each row when (
  (new.account_id, new.number, new.grant_id, new.first_id, new.first_amount, new.is_late)
  is distinct from (old.account_id, old.number, old.grant_id, old.first_id, old.first_amount, old.is_late)
  or old.is_late
  or new.last_id <= old.last_id
) execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.lot_payments
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.lot_returns
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.lot_returns
for each statement execute function credits.refuse_change();

create trigger append_only before delete on credits.ledger_seals
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.ledger_seals
for each statement execute function credits.refuse_change();
create trigger append_only before delete on credits.sealed_texts
for each row execute function credits.refuse_change();
create trigger only_erased before update on credits.sealed_texts
for each row when (
  old.digest is not null
  or new.digest is null
  or (new.account_id, new.transaction_id) is distinct from (old.account_id, old.transaction_id)
) execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.sealed_texts
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.operator_entries
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.operator_entries
for each statement execute function credits.refuse_change();
-- By these a refund knows what to take back and a dispute that is won what to give back.
create trigger append_only before update or delete on credits.clawbacks
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.clawbacks
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.purchase_grants
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.purchase_grants
for each statement execute function credits.refuse_change();
create trigger append_only before update or delete on credits.allotment_sources
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.allotment_sources
for each statement execute function credits.refuse_change();
create trigger no_delete before delete on public.purchases
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.purchases
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.pricing_tier_history
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.pricing_tier_history
for each statement execute function credits.refuse_change();

create trigger no_delete before delete on public.credit_accounts
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_accounts
for each statement execute function credits.refuse_change();
create trigger no_delete before delete on credits.credit_grants
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.credit_grants
for each statement execute function credits.refuse_change();
-- One that ended without a capture moved nothing: credits.sweep_holds.
create trigger no_delete before delete on public.credit_holds
for each row when (old.status not in ('released', 'expired')) execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_holds
for each statement execute function credits.refuse_change();
