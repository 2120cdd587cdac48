create function credits.forget_stripe_payloads(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  forgotten integer;
begin
  update credits.stripe_events as e set payload = null
  where e.id in (
    select o.id from credits.stripe_events as o
    cross join credits.billing_settings as s
    where o.payload is not null and o.received_at < credits.now() - s.stripe_payload_retention
    and o.status in ('applied', 'ignored')
    order by o.received_at
    limit batch
    for update of o skip locked
  );
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;

comment on function credits.forget_stripe_payloads(integer) is
'Empties the payloads of up to batch events that were done with billing_settings.stripe_payload_retention ago; returns '
'how many. Their ids stay, so that they are still known when they come again.';
