create function credits.entry_moment(next_expiry timestamptz) returns timestamptz
language sql
volatile
as $$
  select least(credits.now(), next_expiry - interval '1 microsecond');
$$;

comment on function credits.entry_moment(timestamptz) is
'The moment of a change of an account with this next_expiry, which was found not to be due just before: the clock may '
'have passed it since, and a lot that had expired by then must not have been alive for it. Without a SET clause it is '
'planned as part of its caller.';
