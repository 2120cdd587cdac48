create function credits.inputs_refusal(account_id uuid, files text[], out code text, out message text)
language plpgsql
stable
set search_path = ''
as $$
begin
  -- A project without Storage has no files.
  if cardinality(files) > 0 and to_regclass('storage.objects') is null then
    code := 'PT404';
  elsif cardinality(files) > 17 then
    -- Sixteen images and a mask: what no request has is looked up for nobody. This number, the types and the size of
    -- one are also in functions/_shared/generation, which reads the bytes; a test holds them together.
    code := 'PT413';
  elsif cardinality(files) > 0 then
    select
      case
        when count(*) filter (
          where o.name is null or not starts_with(f.path, inputs_refusal.account_id::text || '/')
        ) > 0 then 'PT404'
        when bool_or(o.metadata ->> 'mimetype' not in ('image/png', 'image/jpeg', 'image/webp')) then 'PT400'
        when sum((o.metadata ->> 'size')::bigint) > 50000000 or max((o.metadata ->> 'size')::bigint) > 32 * 1024 * 1024
          then 'PT413'
      end
    into code
    from unnest(files) as f (path)
    left join storage.objects as o on o.bucket_id = 'generations' and f.path = o.name;
  end if;
  message := case code
    when 'PT404' then 'There is no such file among your inputs.'
    when 'PT400' then 'An input cannot be used. Send a PNG, JPEG or WebP image.'
    when 'PT413' then 'The inputs are too many, or larger than 32 MiB each or 50 MB together.'
  end;
end
$$;

comment on function credits.inputs_refusal(uuid, text[]) is
'Why the files of the bucket generations cannot be a generation''s inputs, by what Storage has noted of them: PT404 '
'not there or not the account''s, PT400 not images that providers take, PT413 over 32 MiB each or 50 MB together. '
'Nulls when nothing is wrong. That nobody holds more images in memory than that is what the last one is for.';
