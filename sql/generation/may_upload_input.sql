create function credits.may_upload_input(name text, metadata jsonb) returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
  account text := credits.my_account_id()::text;
  mime_type text := lower(metadata ->> 'mimetype');
  bytes numeric := coalesce(metadata ->> 'size', metadata ->> 'contentLength')::numeric;
begin
  if account is null
    or split_part(name, '/', 1) <> account
    or name !~* '^[^/]+/inputs/[^/]+\.(png|jpe?g|webp|gif)$'
    or split_part(name, '/', 2) <> 'inputs'
    -- JSON, or nothing, is what a request for a signed upload URL says, which has no file yet.
    or mime_type <> 'application/json' and mime_type <> all (credits.input_types()) then
    return false;
  end if;
  -- One upload of an account at a time: the next one counts this one.
  perform pg_advisory_xact_lock(hashtextextended('credits.inputs/' || account, 0));
  return (
    select
      count(o.id) < s.max_input_files
      and coalesce(sum((o.metadata ->> 'size')::bigint), 0) + greatest(bytes, 1) <= s.max_input_bytes
    from credits.billing_settings as s
    left join storage.objects as o
      on
        o.bucket_id = 'generations'
        and o.name ~>=~ (account || '/inputs/') and o.name ~<~ (account || '/inputs0')
        and o.name <> may_upload_input.name
    group by s.id
  );
end
$$;

comment on function credits.may_upload_input(text, jsonb) is
'For the policy on storage.objects: whether the signed-in user may put a file of this name there, by what Storage '
'knows of it then (mimetype; size or contentLength, in bytes): an image directly below their inputs/, within '
'billing_settings.max_input_files and max_input_bytes.';

grant execute on function credits.may_upload_input(text, jsonb) to authenticated;
