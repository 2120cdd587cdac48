create function credits.csv_text(value text) returns text
language sql
immutable
set search_path = ''
as $$
  select case when value ~ '^\s*[=+@＝＋－＠-]|^[\t\r\n]' then '''' || value else value end;
$$;

comment on function credits.csv_text(text) is
'The text as a cell that no spreadsheet takes for a formula: one that begins with = + - @, a tab or a line break gets '
'an apostrophe before it.';

-- Evaluated as the reader of transactions_export.
grant execute on function credits.csv_text(text) to service_role;
