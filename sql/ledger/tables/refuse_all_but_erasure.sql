create function credits.refuse_all_but_erasure() returns trigger
language plpgsql
set search_path = ''
as $$
declare
  before jsonb := to_jsonb(old);
  after jsonb := to_jsonb(new);
  is_erased boolean;
begin
  if tg_relid = 'public.credit_transactions'::regclass then
    is_erased :=
      after = before || '{"idempotency_key": null, "metadata": {}}'
      and credits.is_callers_text(old)
      and exists (
        select from credits.sealed_texts as x
        where x.account_id = old.account_id and x.transaction_id = old.id and x.digest is not null
      );
  else
    is_erased :=
      after = before || '{"salt": null}'
      and exists (
        select from credits.sealed_texts as x
        inner join public.credit_transactions as t on x.account_id = t.account_id and x.transaction_id = t.id
        where
          x.account_id = old.account_id and x.digest is not null
          and x.transaction_id between old.through_id - old.entries + 1 and old.through_id
          -- It is still there: the salt goes first.
          and credits.is_callers_text(t)
      );
  end if;
  if not is_erased then
    raise exception '%.% is append-only: UPDATE is refused.', tg_table_schema, tg_table_name
      using errcode = 'PT403',
        hint = 'Correct a mistake with a new row: refund, grant_credits or credits.claw_back. To erase what a caller '
          'wrote, call erase_transaction_text or erase_account_text.';
  end if;
  return new;
end
$$;

comment on function credits.refuse_all_but_erasure() is
'Refuses UPDATE, whoever asks, but for the one that credits.erase_texts does: a caller''s text that '
'credits.sealed_texts says is erased is taken out of its ledger row, or the salt out of its seal, and nothing else '
'changes. What the ledger wrote itself, such as the keys by which a bonus or a payment comes once, nobody takes out.';

create trigger only_erased before update on public.credit_transactions
for each row execute function credits.refuse_all_but_erasure();
create trigger only_erased before update on credits.ledger_seals
for each row execute function credits.refuse_all_but_erasure();
