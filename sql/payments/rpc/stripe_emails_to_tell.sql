create function public.stripe_emails_to_tell() returns table (account_id uuid, customer_id text, email text)
language sql
stable
security definer
set search_path = ''
as $$
  select c.account_id, c.customer_id, e.email
  from credits.stripe_customers as c
  inner join public.credit_accounts as a on c.account_id = a.id
  cross join lateral credits.email_to_tell(a.user_id, c.email_hash) as e (email)
  where e.email is not null
  order by c.customer_id
  limit 500;
$$;

comment on function public.stripe_emails_to_tell() is
'For reconciliation: customers whose user has another e-mail address than Stripe was told, at most 500. Tell Stripe, '
'then link_stripe_customer with the address.';

grant execute on function public.stripe_emails_to_tell() to service_role;
