create function credits.sweep_stripe_payloads(batch integer default 200) returns integer
language plpgsql
set search_path = ''
as $$
declare
  -- A variable, so that the index finds what is older.
  before timestamptz := credits.now() - (select s.stripe_payload_retention from credits.billing_settings as s);
  forgotten integer;
begin
  update credits.stripe_events as e set payload = null
  where e.id in (
    select o.id from credits.stripe_events as o
    where o.payload is not null and o.received_at < before
    order by o.received_at
    limit batch
    for update skip locked
  );
  get diagnostics forgotten = row_count;
  return forgotten;
end
$$;

comment on function credits.sweep_stripe_payloads(integer) is
'Empties the payloads of up to batch events that came billing_settings.stripe_payload_retention ago; returns how '
'many. What is quarantined or failed until then is given up. Their ids stay, so that they are still known when they '
'come again.';
