create table credits.secrets (
  name text primary key,
  value bytea not null,
  constraint value_must_have_32_bytes check (length(value) = 32)
);

-- Four random UUIDs are 488 random bits. No extension is needed for them.
insert into credits.secrets (name, value)
values (
  'addresses',
  sha256(convert_to(concat(gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid()), 'UTF8'))
);

alter table credits.secrets enable row level security;
alter table credits.secrets force row level security;
revoke all on table credits.secrets from anon, authenticated, service_role;

comment on table credits.secrets is
'Keys that the database made for itself and tells nobody. They go with a dump: with another value no address is '
'recognised any more.';
comment on column credits.secrets.name is 'What it is for. addresses: the hashes in account_addresses.';
comment on column credits.secrets.value is '32 random bytes.';
