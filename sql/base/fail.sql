create function credits.fail(
  status text,
  message text,
  details jsonb default '{}',
  hint text default ''
) returns void
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = status,
    message = message,
    detail = details::text,
    hint = hint;
end
$$;

comment on function credits.fail(text, text, jsonb, text) is
'Ends the call with an error that PostgREST turns into HTTP status NNN for SQLSTATE PTNNN: a sentence, the '
'figures as JSON in details, a way out in hint. The transaction is undone, so a refusal leaves no trace.';
