create function credits.note_balance_transaction(
  transaction jsonb,
  payment_intent_id text,
  source_id text,
  movement credits.money_movement
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if credits.stripe_id(transaction) is null then
    return false; -- not booked yet
  end if;
  begin
    insert into credits.stripe_balance_transactions as b (
      id, payment_intent_id, source_id, movement, amount, fee, currency, exchange_rate, booked_at
    )
    select
      credits.stripe_id(transaction), note_balance_transaction.payment_intent_id, note_balance_transaction.source_id,
      note_balance_transaction.movement, t.amount, t.fee, t.currency, t.exchange_rate, t.booked_at
    from credits.balance_figures(transaction) as t
    on conflict (id) do update set
      amount = excluded.amount,
      fee = excluded.fee,
      currency = excluded.currency,
      exchange_rate = excluded.exchange_rate,
      booked_at = excluded.booked_at
    where b.amount is null and excluded.amount is not null;
    return found;
  exception
    when data_exception or integrity_constraint_violation then
      if jsonb_typeof(transaction) <> 'object' then
        raise;
      end if;
      -- Figures that we cannot store must not stop the dispute or the refund that carries them.
      return credits.note_balance_transaction(
        to_jsonb(credits.stripe_id(transaction)), payment_intent_id, source_id, movement
      );
  end;
end
$$;

comment on function credits.note_balance_transaction(jsonb, text, text, credits.money_movement) is
'Notes that a charge, refund or dispute (source_id) of a payment names a balance transaction: its id, or the object '
'where Stripe shows it whole, or JSON null for none yet. Of one whose figures cannot be stored it keeps the id. '
'Returns whether that was news.';
