create function public.link_stripe_customer(
  account_id uuid,
  customer_id text,
  email text default null
) returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  remembered text;
begin
  if not exists (select from public.credit_accounts as a where a.id = account_id) then
    perform credits.fail(
      'PT404', 'There is no such account.', jsonb_build_object('account_id', account_id), 'Check the account id.'
    );
  elsif customer_id is null or customer_id !~ '^cus_[A-Za-z0-9_]+$' then
    perform credits.fail('PT400', 'customer_id must be a Stripe customer''s id.', '{}', 'It starts with cus_.');
  end if;
  remembered := credits.link_customer(account_id, customer_id);
  if remembered is null then
    perform credits.fail(
      'PT409', 'The customer was deleted, or is another account''s.', jsonb_build_object('customer_id', customer_id),
      'Make a new customer.'
    );
  end if;
  update credits.stripe_customers as c set email_hash = sha256(convert_to(email, 'UTF8'))
  where c.customer_id = link_stripe_customer.customer_id and c.customer_id = remembered and email is not null;
  return remembered;
end
$$;

comment on function public.link_stripe_customer(uuid, text, text) is
'Operator: remembers the Stripe customer that pays for an account; returns the one that is remembered: the first '
'stays. email: the address that Stripe has of the customer, where known; a hash of it is kept. Errors: PT400 '
'customer_id, PT404 no such account, PT409 the customer is another account''s or deleted.';

grant execute on function public.link_stripe_customer(uuid, text, text) to service_role;
