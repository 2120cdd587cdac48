create function credits.refuse_softly(code text, message text, details text, hint text) returns jsonb
language sql
set search_path = ''
as $$
  select jsonb_build_object('code', code, 'message', message, 'details', details, 'hint', hint)
  from set_config('response.status', substr(code, 3), true);
$$;

comment on function credits.refuse_softly(text, text, text, text) is
'A refusal that commits: the body and the HTTP status that credits.fail would give through PostgREST, but what was '
'written before, such as a count of calls, stays.';
