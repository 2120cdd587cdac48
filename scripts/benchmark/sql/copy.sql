-- What the peer of a settlement copies rows into: the ledger's columns and its primary key.
create schema peer;
create table peer.copied (like public.credit_transactions including defaults);
alter table peer.copied add primary key (account_id, id);
