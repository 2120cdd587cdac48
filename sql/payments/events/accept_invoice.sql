create function credits.accept_invoice(account_id uuid, invoice jsonb) returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
  details jsonb := invoice #> '{parent,subscription_details}';
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
  if plan.id is null then
    if
      -- Paid by a customer of ours: for a plan whose row is yet to come, or for something else. A person has to say.
      (account_id is null or invoice ->> 'status' <> 'paid')
      and details #>> '{metadata,plan}' is null
      and not exists (
        select from public.subscriptions as s
        where
          s.account_id = accept_invoice.account_id
          and s.id = credits.stripe_id(details -> 'subscription')
          and s.plan is not null
      )
    then
      return false;
    elsif not coalesce((invoice #>> '{lines,has_more}')::boolean, false) then
      perform credits.fail(
        'PT422', 'No line of the invoice has a Price that is in subscription_plans.',
        jsonb_build_object('plan', details #> '{metadata,plan}'),
        'Insert a row with its Price, inactive if it is no longer sold; then retry_stripe_events applies it. If it is for '
        'something else, dismiss_stripe_event.'
      );
    end if;
  end if;
  if account_id is null then
    perform credits.fail(
      'PT422', 'The invoice is for a plan of ours, but neither its metadata nor its customer names an account.',
      jsonb_build_object('plan', plan.slug, 'customer', invoice -> 'customer'),
      'Link the customer with link_stripe_customer; then retry_stripe_events applies it.'
    );
  elsif (invoice #>> '{lines,has_more}')::boolean then
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
  return true;
end
$$;

comment on function credits.accept_invoice(uuid, jsonb) is
'Whether to take a subscription''s invoice: true for one of a plan of ours, false for one that is none of our '
'business. account_id: null where it is nobody''s. PT422 for one that is ours, or may be, and cannot be granted as it '
'is: nobody''s, of a Price that no plan has, in another currency, or not shown whole.';
