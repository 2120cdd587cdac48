create function credits.usage_by_day(account_id uuid, end_day date, starts date[]) returns table (
  bucket integer,
  price_version bigint,
  transactions bigint,
  quantity bigint,
  spent bigint,
  refunded bigint,
  refunded_of bigint
)
language sql
stable
set search_path = ''
as $$
  select
    width_bucket(u.day, starts) as bucket,
    u.price_version,
    sum(u.transactions)::bigint,
    sum(u.quantity)::bigint,
    sum(u.spent)::bigint,
    sum(u.refunded)::bigint,
    sum(u.refunded_of)::bigint
  from credits.usage_as_of_now as u
  where u.account_id = usage_by_day.account_id and u.day >= starts[1] and u.day < end_day
  group by bucket, u.price_version;
$$;

comment on function credits.usage_by_day(uuid, date, date[]) is
'The account''s usage as of now by price and bucket: number n begins with the day starts[n], the last ends before '
'end_day.';
