create function public.dismiss_stripe_object(object_id text, why text) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  noted credits.dismissed_stripe_objects;
begin
  if coalesce(object_id, '') !~ '^[a-z]+_[A-Za-z0-9_]{1,200}$' or object_id like 'evt\_%' then
    perform credits.fail(
      'PT400', 'object_id must be the id of a Stripe object.', jsonb_build_object('object_id', left(object_id, 100)),
      'Events have dismiss_stripe_event.'
    );
  elsif not coalesce(char_length(btrim(why)) between 1 and 1000, false) then
    perform credits.fail(
      'PT400', 'why must have 1 to 1000 characters.', '{}', 'Say why the object shall have no effect.'
    );
  end if;
  insert into credits.dismissed_stripe_objects (object_id, why, dismissed_at)
  values (dismiss_stripe_object.object_id, btrim(dismiss_stripe_object.why), credits.now())
  on conflict on constraint dismissed_stripe_objects_pkey do nothing;
  select * into noted
  from credits.dismissed_stripe_objects as d
  where d.object_id = dismiss_stripe_object.object_id;
  return jsonb_build_object('id', noted.object_id, 'why', noted.why, 'dismissed_at', noted.dismissed_at);
end
$$;

comment on function public.dismiss_stripe_object(text, text) is
'Operator: an object that reconciliation finds and cannot apply is no problem any more. What of it can be applied '
'later still is. Returns {id, why, dismissed_at}; for one that is dismissed already what was said first. PT400 for '
'object_id or why.';

grant execute on function public.dismiss_stripe_object(text, text) to service_role;
