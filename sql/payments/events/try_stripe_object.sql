create function credits.try_stripe_object(
  object jsonb,
  event_type text,
  out status text,
  out reason text
)
language plpgsql
set search_path = ''
as $$
declare
  its_column text;
  its_constraint text;
begin
  status := credits.apply_stripe_object(object, event_type);
  if status like 'ignored: %' then
    reason := substr(status, 10);
    status := 'ignored';
  end if;
exception
  when others then
    if sqlstate = 'PT422' then
      status := 'quarantined';
      reason := sqlerrm;
    elsif sqlstate like '22%' or sqlstate like '23%' then
      get stacked diagnostics its_column = column_name, its_constraint = constraint_name;
      status := 'quarantined';
      -- Not Postgres's own words, which quote what a customer sent.
      reason := concat_ws(' ', 'A field is missing or not as it should be:', sqlstate, its_column, its_constraint);
    elsif sqlstate like 'PT%' then
      status := 'failed';
      reason := sqlerrm;
    else
      -- A deadlock, a time-out, a bug: nothing is kept, and Stripe tries again.
      raise;
    end if;
end
$$;

comment on function credits.try_stripe_object(jsonb, text) is
'credits.apply_stripe_object, with its reason apart, and with a refusal as an answer: quarantined when the object '
'cannot be read, failed when a rule of the ledger refuses what it asks for; then nothing of it was done, and reason '
'says why.';
