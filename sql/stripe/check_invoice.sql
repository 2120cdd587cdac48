create function credits.check_invoice(invoice jsonb, account_id uuid) returns void
language plpgsql
stable
set search_path = ''
as $$
declare
  plan public.subscription_plans;
begin
  if jsonb_typeof(invoice #> '{lines,data}') is distinct from 'array' then
    perform credits.fail('PT422', 'The invoice shows no lines.', '{}', 'Is it of a current API version?');
  end if;
  select p.* into plan
  from jsonb_array_elements(invoice #> '{lines,data}') as l
  inner join public.subscription_plans as p
    on credits.stripe_id(l.value #> '{pricing,price_details,price}') = p.stripe_price_id
  order by (p.currency = l.value ->> 'currency') nulls first
  limit 1;
  if account_id is null and plan.id is not null then
    perform credits.fail(
      'PT422', 'The invoice is for a plan of ours, but neither its metadata nor its customer names an account.',
      jsonb_build_object('plan', plan.slug, 'customer', invoice -> 'customer'),
      'Link the customer with link_stripe_customer; then retry_stripe_events applies it.'
    );
  elsif account_id is not null and (invoice #>> '{lines,has_more}')::boolean then
    perform credits.fail(
      'PT422', 'The invoice has more lines than the event shows.', '{}', 'scripts/reconcile reads it whole.'
    );
  elsif plan.currency <> invoice ->> 'currency' then
    perform credits.fail(
      'PT422', 'The invoice is in another currency than the plan of its Price.',
      jsonb_build_object('plan', plan.slug, 'currency', plan.currency, 'invoice', invoice ->> 'currency'),
      'Give each currency a Price and a row in subscription_plans.'
    );
  end if;
end
$$;

comment on function credits.check_invoice(jsonb, uuid) is
'PT422 for an invoice that cannot be granted as it is: lines missing, nobody''s, in a currency that no plan has.';
