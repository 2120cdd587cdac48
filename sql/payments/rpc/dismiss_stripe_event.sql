create function public.dismiss_stripe_event(event_id text, why text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  event credits.stripe_events;
begin
  if not coalesce(char_length(btrim(why)) between 1 and 1000, false) then
    perform credits.fail(
      'PT400', 'why must have 1 to 1000 characters.', '{}', 'Say why the event shall have no effect.'
    );
  end if;
  perform credits.lock_stripe_object(event_id);
  select * into event from credits.stripe_events as e where e.id = event_id;
  if event.id is null then
    perform credits.fail(
      'PT404', 'There is no such event.', jsonb_build_object('event_id', left(event_id, 300)),
      'stripe_problems lists what can be dismissed.'
    );
  elsif event.status in ('applied', 'ignored') then
    perform credits.fail(
      'PT409', format('The event is %s: there is nothing to dismiss.', event.status),
      jsonb_build_object('event_id', event_id, 'status', event.status), 'stripe_problems lists what can be dismissed.'
    );
  elsif event.status <> 'dismissed' then
    update credits.stripe_events as e
    set status = 'dismissed', dismissed_why = btrim(why), dismissed_at = credits.now()
    where e.id = event_id
    returning * into event;
    -- Reconciliation, which reads objects, does not report it again.
    insert into credits.dismissed_stripe_objects (object_id, why, dismissed_at)
    select o.id, event.dismissed_why, event.dismissed_at
    from (select event.payload #>> '{data,object,id}' as id) as o
    where char_length(o.id) between 1 and 255
    on conflict on constraint dismissed_stripe_objects_pkey do nothing;
  end if;
  return jsonb_build_object(
    'id', event.id,
    'type', event.type,
    'status', event.status,
    'reason', event.reason,
    'why', event.dismissed_why,
    'dismissed_at', event.dismissed_at
  );
end
$$;

comment on function public.dismiss_stripe_event(text, text) is
'Operator: decides that an event that is quarantined or failed shall have no effect: it is not tried again, and not '
'taken when it comes again; its object is dismissed with it (see dismiss_stripe_object). What other messages tell of '
'the object counts. Returns {id, type, status, reason, why, dismissed_at}; for one that is dismissed already what was '
'said first. Errors: PT400 why, PT404 no such event, PT409 it is applied or ignored.';

grant execute on function public.dismiss_stripe_event(text, text) to service_role;
