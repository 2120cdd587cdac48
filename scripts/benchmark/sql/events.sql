-- What the bare route of webhooks does: it inserts the raw event.
create schema events;

create table events.raw (
  id text primary key,
  payload jsonb not null,
  received_at timestamptz not null default clock_timestamp()
);

-- In public, where PostgREST finds it.
create function public.bench_insert_event(jsonb) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into events.raw (id, payload) values ($1 ->> 'id', $1);
  return '{"status": "applied"}';
end
$$;

grant execute on function public.bench_insert_event(jsonb) to service_role;
