create function credits.is_disputed(account_id uuid) returns boolean
language sql
stable
set search_path = ''
as $$
  with recursive line (id) as (
    select is_disputed.account_id
    union
    select d.account_id
    from line
    inner join credits.account_addresses as d on line.id = d.successor_id
  )

  select exists (
    select from line
    inner join credits.stripe_disputes as d on line.id = d.account_id
    where d.standing
  );
$$;

comment on function credits.is_disputed(uuid) is
'Whether a dispute stands of a payment of the account, or of one that it took over from, its user being deleted.';
