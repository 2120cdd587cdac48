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

create trigger append_only before update or delete on public.credit_transactions
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on public.credit_transactions
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.credit_allocations
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.credit_allocations
for each statement execute function credits.refuse_change();

create trigger append_only before update or delete on credits.ledger_seals
for each row execute function credits.refuse_change();
create trigger no_truncate before truncate on credits.ledger_seals
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
