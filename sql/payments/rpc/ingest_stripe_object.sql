create function public.ingest_stripe_object(object jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  settings credits.billing_settings;
  outcome record;
  known text;
begin
  select * into settings from credits.billing_settings;
  if jsonb_typeof(object) is distinct from 'object' or jsonb_typeof(object -> 'id') is distinct from 'string' then
    perform credits.fail('PT400', 'This is not a Stripe object.', '{}', 'Send an object as Stripe''s API returns it.');
  elsif object -> 'livemode' <> to_jsonb(settings.stripe_livemode) then
    return jsonb_build_object(
      'status', 'quarantined', 'reason', 'Its livemode is not that of billing_settings.stripe_livemode.'
    );
  end if;
  select t.status, t.reason into outcome from credits.try_stripe_object(object, null) as t;
  if outcome.status in ('quarantined', 'failed') then
    select d.why into known from credits.dismissed_stripe_objects as d where d.object_id = object ->> 'id';
    if found then
      return jsonb_build_object('status', 'ignored', 'reason', 'It was dismissed: ' || known);
    end if;
  end if;
  return jsonb_build_object('status', outcome.status, 'reason', outcome.reason);
end
$$;

comment on function public.ingest_stripe_object(jsonb) is
'For reconciliation: the effects of an object as Stripe''s API returns it now (checkout.session, invoice, '
'invoice_payment, subscription, refund, charge, dispute, balance_transaction, radar.early_fraud_warning, customer). '
'Returns {status, reason}: changed when a message had been missed, unchanged, ignored, quarantined or failed; ignored '
'also for what cannot be applied and was dismissed. PT400 for what is no object.';

grant execute on function public.ingest_stripe_object(jsonb) to service_role;
