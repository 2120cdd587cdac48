-- What the peer of a settlement copies rows into: the ledger's columns, its primary key and its index by account.
create schema peer;
create table peer.copied (like public.credit_transactions including defaults);
alter table peer.copied add primary key (id);
create unique index copied_account_id_id on peer.copied (account_id, id desc);
