create function public.sweep_files(process uuid, batch integer default 500) returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
  page integer := least(greatest(batch, 1), 500);
  sweep credits.file_sweep;
  settings credits.billing_settings;
  seen bigint;
  stale jsonb;
  last text;
begin
  if to_regclass('storage.objects') is null then
    return null;
  end if;
  update credits.file_sweep as s
  set leased_by = process, leased_until = moment + interval '1 minute'
  where
    process is not null
    and (s.leased_by = process or s.leased_until is null or s.leased_until <= moment)
    and (s.after is not null or s.swept_at is null or s.swept_at <= moment - interval '1 hour')
  returning * into sweep;
  if not found then
    return null;
  end if;
  select * into settings from credits.billing_settings;

  with looked_at as materialized (
    select
      o.name,
      o.created_at,
      split_part(o.name, '/', 1) as account,
      split_part(o.name, '/', 2) as folder
    from storage.objects as o
    where o.bucket_id = 'generations' and o.name > coalesce(sweep.after, '')
    order by o.name
    limit page
  ),

  -- Nothing is ours that does not lie in the folder of an account.
  accounts as (
    select
      a.id,
      names.account
    from (select distinct l.account from looked_at as l) as names
    inner join public.credit_accounts as a on a.id = case
      when names.account ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then names.account::uuid
    end
  ),

  -- What came past the policy, by uploads at the same moment or signed URLs: of too many, the first ones stay.
  inputs as (
    select
      o.name,
      lower(o.metadata ->> 'mimetype') <> all (credits.input_types()) as is_wrong,
      row_number() over first_come as files,
      sum((o.metadata ->> 'size')::bigint) over first_come as bytes
    from accounts as a
    inner join storage.objects as o
      on o.bucket_id = 'generations' and o.name ~>=~ (a.account || '/inputs/') and o.name ~<~ (a.account || '/inputs0')
    window first_come as (partition by a.id order by o.created_at, o.id)
  )

  select
    (select count(*) from looked_at),
    (select max(l.name) from looked_at as l),
    coalesce(jsonb_agg(l.name order by l.name) filter (
      where i.name is not null and (
        l.created_at <= moment - settings.input_retention
        or i.is_wrong
        or i.files > settings.max_input_files
        or i.bytes > settings.max_input_bytes
      )
      or j.id is not null and l.created_at <= moment - settings.orphan_retention
    ), '[]')
  into seen, last, stale
  from looked_at as l
  inner join accounts as a on l.account = a.account
  left join inputs as i on l.name = i.name
  -- Only of a job that is over: it stays what it is, so nobody can come to need the file.
  left join public.generation_jobs as j
    on
      j.account_id = a.id
      and j.id = case
        when l.name ~ '^[^/]+/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]+\.(png|jpg|webp|gif|mp4|webm|txt)$'
          then l.folder::uuid
      end
      and j.finished_at <= moment - settings.orphan_retention
      and not j.outputs @> jsonb_build_array(jsonb_build_object('path', l.name));

  last := case when seen = page then last end;
  update credits.file_sweep as s
  set
    after = last,
    swept_at = case when last is null then moment else s.swept_at end,
    leased_until = case when last is not null then s.leased_until end;
  return jsonb_build_object('paths', stale, 'more', last is not null);
end
$$;

comment on function public.sweep_files(uuid, integer) is
'For the function generate: looks at the next batch files (at most 500) of the bucket generations, and returns {paths: '
'those to be deleted through Storage, more: whether to call again now}. Null while another process sweeps, and within '
'an hour of the last sweep''s end. To be deleted are files of jobs that are over for '
'billing_settings.orphan_retention and do not list them as outputs, and inputs that are older than input_retention, '
'are no images, or are beyond max_input_files and max_input_bytes.';

grant execute on function public.sweep_files(uuid, integer) to service_role;
