-- :accounts users, who sign up and are granted a billion credits, through the ledger's own functions.
insert into auth.users (id, email)
select md5('user ' || n)::uuid, 'user' || n || '@example.com'
from generate_series(1, :accounts) as n;

select count(public.grant_credits(u.id, 1000000000, 'purchase')) from auth.users as u;

insert into peer.accounts (id, balance) select u.id, 1000000000 from auth.users as u;
