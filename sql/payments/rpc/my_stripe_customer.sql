create function public.my_stripe_customer() returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  me uuid := credits.caller();
  customer text;
begin
  select c.customer_id into customer
  from credits.stripe_customers as c
  where c.account_id = credits.account_of(me);
  if not found then
    perform credits.fail('PT404', 'You have not bought anything yet.', '{}', 'Buy a package or subscribe first.');
  end if;
  return customer;
end
$$;

comment on function public.my_stripe_customer() is
'The signed-in user''s Stripe customer id, for the billing portal. Errors: PT403 not signed in, PT404 none yet.';

grant execute on function public.my_stripe_customer() to authenticated;
