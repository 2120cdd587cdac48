-- One row per owner. Today an owner is a user; a team will be a second nullable column beside user_id. The ledger
-- knows accounts only, so it does not change with the kinds of owner.
create table public.credit_accounts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid unique references auth.users (id) on delete set null,
  -- Before updated_at. An UPDATE sets columns in this order, so a hold's next_expiry is never after the hold's end and
  -- needs no second UPDATE; that would make Postgres look up the user again, and wait for one who is being deleted.
  next_expiry timestamptz,
  balance bigint not null default 0,
  available credits.credit_amount not null default 0,
  lifetime_spent credits.credit_amount not null default 0,
  last_entry bigint not null default 0,
  unsettled_since timestamptz,
  updated_at timestamptz not null default clock_timestamp(),
  held credits.credit_amount not null default 0,
  lapsed credits.credit_amount not null default 0,
  lifetime_granted credits.credit_amount not null default 0,
  lifetime_refunded credits.credit_amount not null default 0,
  lifetime_expired credits.credit_amount not null default 0,
  lifetime_clawed_back credits.credit_amount not null default 0,
  frozen_at timestamptz,
  frozen_by public.freeze_cause,
  frozen_reason text,
  settled_through bigint not null default 0,
  debt_from bigint,
  has_keyed_holds boolean not null default false,
  created_at timestamptz not null default clock_timestamp()
)
-- Every spend rewrites the row. Room in the page and no index on what a spend changes keep the rewrite off the indexes
-- (a HOT update); what it changes stands together, because the WAL takes all from the first changed byte to the last.
-- And no CHECK: Postgres reads those from the catalog and plans them anew for every statement, which
-- made a spend a third dearer. The domain of `available` is what keeps it from going below zero.
with (fillfactor = 50);

alter table public.credit_accounts enable row level security;
alter table public.credit_accounts force row level security;
revoke all on table public.credit_accounts from anon, authenticated, service_role;
grant select on table public.credit_accounts to authenticated, service_role;

-- Between the moment a lot expires and its settlement the stored balance still counts it. In that short while the
-- row is not shown, so that nobody reads credits that are gone; user_credits always answers, and rightly.
create policy own_account on public.credit_accounts for select to authenticated
using (user_id = (select auth.uid()) and not credits.is_due(next_expiry));

-- Realtime sends a change to whom the policy lets read it. Old rows carry the primary key only.
alter table public.credit_accounts replica identity default;
do $$
begin
  if exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    alter publication supabase_realtime add table public.credit_accounts;
  end if;
end
$$;

comment on table public.credit_accounts is
'One row per owner of credits. Amounts are whole credits. Written by functions only. For a client: '
'subscribe to it with Realtime, read user_credits.';
comment on column public.credit_accounts.user_id is 'The owner; null when the user was deleted.';
comment on column public.credit_accounts.balance is 'Sum of the account''s credit_transactions.amount.';
comment on column public.credit_accounts.held is 'Sum of its open holds.';
comment on column public.credit_accounts.lapsed is
'Part of the balance that has expired and lives only as long as its holds.';
comment on column public.credit_accounts.available is
'What may be spent: balance - held, or 0 where a clawback has left less. Never below 0, by its type.';
comment on column public.credit_accounts.lifetime_granted is 'Credits ever granted.';
comment on column public.credit_accounts.lifetime_spent is 'Credits ever spent or captured, refunds not taken off.';
comment on column public.credit_accounts.lifetime_refunded is 'Credits ever given back by refunds.';
comment on column public.credit_accounts.lifetime_expired is 'Credits ever expired.';
comment on column public.credit_accounts.lifetime_clawed_back is 'Credits ever clawed back.';
comment on column public.credit_accounts.next_expiry is
'When time alone next changes this account: its earliest lot or hold that will expire. Past it, settle first.';
comment on column public.credit_accounts.frozen_at is 'Set while the account may not spend or hold.';
comment on column public.credit_accounts.frozen_by is 'What froze it; null while it is not frozen.';
comment on column public.credit_accounts.frozen_reason is
'The same in words, for people: nothing here reads it. The owner can read it.';
comment on column public.credit_accounts.last_entry is
'The number of its newest ledger row, 0 for none: what the next one counts from. Less settled_through it is how many '
'rows are not settled.';
comment on column public.credit_accounts.unsettled_since is
'When the oldest ledger row after the last settlement was written.';
comment on column public.credit_accounts.has_keyed_holds is
'Whether a hold was ever made with an idempotency key: only then a spend with a key looks among the holds.';
comment on column public.credit_accounts.settled_through is 'The last settled ledger row; 0 for none.';
comment on column public.credit_accounts.debt_from is
'The oldest ledger row that no lot has wholly paid for; null for none.';
