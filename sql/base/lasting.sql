create function credits.lasting(span interval, moment timestamptz) returns interval
language plpgsql
immutable
set search_path = ''
as $$
begin
  -- In UTC, so that a day has 24 hours whatever time zone a caller sets.
  return make_interval(secs => extract(epoch from (moment at time zone 'UTC' + span) - moment at time zone 'UTC')::double precision);
exception
  when datetime_field_overflow then
    return null;
end
$$;

comment on function credits.lasting(interval, timestamptz) is
'How long a span of time takes that begins at the moment, in seconds alone: such intervals compare as the moments do '
'where they end. Null for one that ends outside the calendar.';
