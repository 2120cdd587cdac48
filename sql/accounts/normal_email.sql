create function credits.normal_email(email text) returns text
language sql
immutable
set search_path = ''
as $$
  select case when strpos(whole.address, '@') > 1 then mailbox.name || '@' || mailbox.domain else nullif(whole.address, '') end
  from (select lower(btrim(email)) as address) as whole
  cross join lateral (
    select
      regexp_replace(whole.address, '@[^@]*$', '') as name,
      regexp_replace(whole.address, '^.*@', '') as domain
  ) as part
  -- A name that begins with + has no tag.
  cross join lateral (select coalesce(nullif(split_part(part.name, '+', 1), ''), part.name) as name) as untagged
  cross join lateral (
    select
      case
        when part.domain in ('gmail.com', 'googlemail.com') then replace(untagged.name, '.', '')
        else untagged.name
      end as name,
      case when part.domain = 'googlemail.com' then 'gmail.com' else part.domain end as domain
  ) as mailbox;
$$;

comment on function credits.normal_email(text) is
'The one way of writing an e-mail address by which a mailbox is recognised: lower case, no spaces around it, no +tag, '
'and at Gmail no dots. Null for none.';
