create function credits.check_metadata(metadata jsonb) returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(metadata) is distinct from 'object' then
    perform credits.fail('PT400', 'metadata must be a JSON object.', '{}', 'Send {} or leave it out.');
  elsif octet_length(metadata::text) > 8192 then
    perform credits.fail(
      'PT400', 'metadata is larger than 8 KiB.',
      jsonb_build_object('bytes', octet_length(metadata::text), 'limit', 8192), 'Keep large values elsewhere and send their id.'
    );
  end if;
end
$$;

comment on function credits.check_metadata(jsonb) is 'PT400 unless metadata is a JSON object of at most 8192 bytes.';
