create function public.cancel_generation(job_id uuid) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  job public.generation_jobs := credits.lock_generation(credits.account_of(credits.caller()), job_id);
begin
  if job.status = 'held' then
    job := credits.close_generation(
      job, credits.lock_hold(job.account_id, job.hold_id), 'canceled', 0, 'failed', null,
      jsonb_build_object('status', 409, 'code', 'canceled', 'message', 'The job was canceled.'), null, null
    );
  elsif job.finished_at is null then
    update public.generation_jobs as j set cancel_requested_at = coalesce(j.cancel_requested_at, credits.now())
    where j.account_id = job.account_id and j.id = job.id
    returning * into job;
  end if;
  return credits.job_json(job);
end
$$;

comment on function public.cancel_generation(uuid) is
'Takes the signed-in user''s job back: at once while no provider was asked; after that it notes the wish, and the '
'function generate cancels what the provider lets it. A job that is over stays as it is. Returns the job. Errors: '
'PT403 not signed in, PT404 no such job, another user''s included.';

grant execute on function public.cancel_generation(uuid) to authenticated;
