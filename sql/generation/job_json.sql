create function credits.job_json(job public.generation_jobs) returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  -- In PL/pgSQL, which keeps the plan: language sql would make it anew at every call.
  return (
    select to_jsonb(job) || jsonb_build_object(
      'terms', credits.generation_terms(p.new -> 'terms'),
      'credits_held', h.amount,
      'credits_charged', coalesce(-t.amount, 0),
      'available', a.available
    )
    from public.credit_holds as h
    inner join credits.account_position(
      (select c from public.credit_accounts as c where c.id = job.account_id)
    ) as a on true
    inner join credits.pricing_tier_history as p on h.price_version = p.version
    left join public.credit_transactions as t on t.account_id = job.account_id and t.id = job.transaction_id
    where h.account_id = job.account_id and h.id = job.hold_id
  );
end
$$;

comment on function credits.job_json(public.generation_jobs) is
'A job for the function generate: the row, with its terms, credits_held, credits_charged, and what the account has '
'available now.';
