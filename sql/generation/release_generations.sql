create function public.release_generations(process uuid) returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  released integer;
begin
  update public.generation_jobs as j
  set leased_until = null
  where j.leased_by = process and j.finished_at is null and j.leased_until is not null;
  get diagnostics released = row_count;
  return released;
end
$$;

comment on function public.release_generations(uuid) is
'For the function generate when its process ends: gives back every job that lease_generations or note_generation gave '
'it, so that another process need not wait. Returns how many.';

grant execute on function public.release_generations(uuid) to service_role;
