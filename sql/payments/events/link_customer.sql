create function credits.link_customer(account_id uuid, customer_id text) returns text
language plpgsql
set search_path = ''
as $$
begin
  insert into credits.stripe_customers (customer_id, account_id) values (link_customer.customer_id, link_customer.account_id)
  on conflict do nothing;
  return (select c.customer_id from credits.stripe_customers as c where c.account_id = link_customer.account_id);
end
$$;

comment on function credits.link_customer(uuid, text) is
'Remembers the Stripe customer of an account; returns the one that is remembered: the first stays. Null for a customer '
'that is deleted or is another account''s.';
