create function credits.input_types() returns text[]
language sql
immutable
as $$
  select array['image/png', 'image/jpeg', 'image/webp', 'image/gif'];
$$;

comment on function credits.input_types() is
'The MIME types of what users may upload below inputs/. Without a SET clause it is planned as part of its caller.';
