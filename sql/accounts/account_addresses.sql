create table credits.account_addresses (
  address bytea not null,
  account_id uuid not null,
  successor_id uuid,
  noted_at timestamptz not null default clock_timestamp(),
  primary key (address, account_id),
  constraint address_must_have_32_bytes check (length(address) = 32),
  constraint nobody_succeeds_themselves check (successor_id <> account_id)
);

create index account_addresses_account_id on credits.account_addresses (account_id);
create unique index account_addresses_one_successor on credits.account_addresses (account_id)
where successor_id is not null;
create index account_addresses_successor_id on credits.account_addresses (successor_id) where successor_id is not null;

alter table credits.account_addresses enable row level security;
alter table credits.account_addresses force row level security;
revoke all on table credits.account_addresses from anon, authenticated, service_role;

comment on table credits.account_addresses is
'Every confirmed address that an account has had, so that bonus, debt and freeze outlive the user: by keyed hash, '
'which names nobody. Accounts are never deleted, and neither are these rows.';
comment on column credits.account_addresses.address is 'See credits.address_hashes.';
comment on column credits.account_addresses.account_id is 'credit_accounts.id.';
comment on column credits.account_addresses.successor_id is
'The account that the same person opened under this address after the user of account_id was deleted: it takes over '
'what that account owes. One for an account.';
comment on column credits.account_addresses.noted_at is 'When the address was first seen confirmed.';
