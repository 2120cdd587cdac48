create function credits.subscriber(subscription_id text, customer jsonb, metadata jsonb) returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  account uuid;
begin
  -- Known once, known for good: also after its customer was deleted.
  select o.account_id into account from credits.stripe_objects as o where o.id = subscription_id;
  return coalesce(account, credits.paying_account(credits.stripe_id(customer), metadata ->> 'account_id'));
end
$$;

comment on function credits.subscriber(text, jsonb, jsonb) is
'The account of a subscription: as known before, else by its metadata, else by its customer; null when it is nobody''s '
'here. PT422 for an account_id that does not exist.';
