-- The Storage bucket of the files, where there is Storage. Row level security on storage.objects is on already, and
-- only policies on it are the project's to make. What an operator has changed in the bucket's settings stays.
do $$
begin
  if to_regclass('storage.objects') is null or to_regclass('storage.buckets') is null then
    return;
  end if;

  -- The largest output. For an input: sql/generation/inputs_refusal.sql, functions/_shared/generation/media.py.
  insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
  values (
    'generations', 'generations', false, 100 * 1000 * 1000,
    array['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'video/mp4', 'video/webm', 'text/plain']
  )
  on conflict (id) do nothing;

  -- Names are ACCOUNT/JOB/INDEX.EXT for what was generated, which the service role writes, and ACCOUNT/inputs/NAME for
  -- what the user uploads. An output is read once its job has succeeded: a crash between storing and charging gives
  -- nothing away. No policy for update: a user's file is replaced by removing it first.
  drop policy if exists generations_read_own on storage.objects;
  create policy generations_read_own on storage.objects for select to authenticated
  using (
    bucket_id = 'generations'
    and (storage.foldername(name))[1] = (select credits.my_account_id())::text
    and (
      (storage.foldername(name))[2] = 'inputs'
      or exists (
        select from public.generation_jobs as j
        where
          j.account_id = (select credits.my_account_id())
          and j.id = case
            when (storage.foldername(objects.name))[2] ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
              then ((storage.foldername(objects.name))[2])::uuid
          end
          and j.status = 'succeeded'
      )
    )
  );

  drop policy if exists generations_upload_inputs on storage.objects;
  create policy generations_upload_inputs on storage.objects for insert to authenticated
  with check (bucket_id = 'generations' and credits.may_upload_input(name, metadata));

  drop policy if exists generations_delete_inputs on storage.objects;
  create policy generations_delete_inputs on storage.objects for delete to authenticated
  using (
    bucket_id = 'generations'
    and (storage.foldername(name))[1] = (select credits.my_account_id())::text
    and (storage.foldername(name))[2] = 'inputs'
  );
end
$$;
