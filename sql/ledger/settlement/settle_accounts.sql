create function credits.settle_accounts(
  accounts uuid[],
  usable_from timestamptz default null,
  preferred_lot bigint default null,
  batches integer default null
) returns void
language plpgsql
set search_path = ''
as $$
declare
  pending uuid[] := accounts;
  due uuid[];
begin
  loop
    perform credits.settle_batch(pending, usable_from, preferred_lot);
    pending := credits.unsettled_of(pending);
    exit when pending is null;
    batches := batches - 1;
    if batches = 0 then
      return;
    end if;
  end loop;

  select array_agg(a.id) into due
  from public.credit_accounts as a
  where a.id = any(accounts) and credits.is_due(a.next_expiry, a.lapsed);
  if due is null then
    return;
  end if;
  for n in 1 .. cardinality(due) loop
    perform credits.expire_due(due[n]);
  end loop;
  pending := credits.unsettled_of(due);
  while pending is not null loop
    perform credits.settle_batch(pending);
    pending := credits.unsettled_of(pending);
  end loop;
end
$$;

comment on function credits.settle_accounts(uuid[], timestamptz, bigint, integer) is
'Brings lots, expiry, daily usage and seals of the accounts up to their newest ledger rows, so that they are as if '
'each spend had done it at once. In batches (credits.settle_batch): however much is pending, it takes little memory. '
'batches: after so many it stops, with what came first settled and what is due still to expire; null for all. The '
'caller holds the accounts'' locks. usable_from and preferred_lot: see credits.settle_batch.';
