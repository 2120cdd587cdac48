create function credits.account_position(
  account public.credit_accounts,
  out balance bigint,
  out held bigint,
  out available bigint
)
language plpgsql
volatile
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
begin
  balance := account.balance;
  held := account.held;
  if account.next_expiry <= moment then
    balance := balance - (select coalesce(sum(e.credits), 0) from credits.due_expiries(account.id, moment) as e);
    held := held - (
      select coalesce(sum(h.amount), 0)
      from public.credit_holds as h
      where h.account_id = account.id and h.status = 'held' and h.expires_at <= moment
    );
  end if;
  available := balance - held;
end
$$;

comment on function credits.account_position(public.credit_accounts) is
'What the account is worth now, in credits: what a settlement at this moment would leave, without writing anything.';
