create function credits.max_quantity() returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (select s.max_quantity from credits.billing_settings as s);
end
$$;

comment on function credits.max_quantity() is
'billing_settings.max_quantity. A function, so that a statement reads the settings only where it comes to ask.';
