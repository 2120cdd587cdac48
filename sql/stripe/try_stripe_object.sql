create function credits.try_stripe_object(
  object jsonb,
  event_type text,
  out status text,
  out reason text
)
language plpgsql
set search_path = ''
as $$
begin
  status := credits.apply_stripe_object(object, event_type);
exception
  when others then
    reason := sqlerrm;
    if sqlstate = 'PT422' or sqlstate like '22%' or sqlstate like '23%' then
      status := 'quarantined';
    elsif sqlstate like 'PT%' then
      status := 'failed';
    else
      -- A deadlock, a time-out, a bug: nothing is kept, and Stripe tries again.
      raise;
    end if;
end
$$;

comment on function credits.try_stripe_object(jsonb, text) is
'credits.apply_stripe_object, with a refusal as an answer: quarantined when the object cannot be read, failed when a '
'rule of the ledger refuses what it asks for; then nothing of it was done, and reason says why.';
