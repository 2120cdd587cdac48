create function credits.paying_account(customer_id text, account_id text) returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  account uuid;
begin
  if account_id is null then
    select c.account_id into account from credits.stripe_customers as c where c.customer_id = paying_account.customer_id;
  else
    select a.id into account from public.credit_accounts as a where a.id = paying_account.account_id::uuid;
    if not found then
      perform credits.fail(
        'PT422', 'metadata.account_id names no account of this project.', jsonb_build_object('account_id', account_id),
        'Does another project share this Stripe account?'
      );
    end if;
  end if;
  return account;
end
$$;

comment on function credits.paying_account(text, text) is
'The account that a Stripe object is paid for: the one in its metadata, else its customer''s; null when it is '
'nobody''s here. PT422 for an account_id that does not exist.';
