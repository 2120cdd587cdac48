create function credits.unclaimed_retention() returns interval
language sql
immutable
as $$
  select interval '200 days';
$$;

comment on function credits.unclaimed_retention() is
'How long what Stripe tells of payments that nobody here has bought anything with is kept: their purchase may be told '
'of late, or never, where one Stripe account serves several apps. Longer than reconciliation looks back, 180 days for '
'disputes.';
