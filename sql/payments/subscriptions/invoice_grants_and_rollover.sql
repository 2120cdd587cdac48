create function credits.invoice_grants_and_rollover(invoice jsonb) returns table (
  key text,
  plan text,
  credits bigint,
  is_trial boolean,
  is_proration boolean,
  is_monthly boolean,
  rollover interval,
  rollover_cap bigint,
  period_start timestamptz,
  period_end timestamptz,
  expires_at timestamptz,
  priority integer,
  cost_basis bigint
)
language sql
stable
set search_path = ''
-- Estimated as dear, with a few lines to read: compiling it took a second for each invoice.
set jit = off
as $$
  with billed as (
    select
      l.ordinality as number,
      l.value as line,
      d.discount,
      (l.value ->> 'amount')::bigint - d.discount as price,
      sum((l.value ->> 'amount')::bigint - d.discount) over (order by l.ordinality) as prices_so_far,
      sum((l.value ->> 'amount')::bigint - d.discount) over () as prices,
      (invoice ->> 'total_excluding_tax')::numeric as net
    from jsonb_array_elements(invoice #> '{lines,data}') with ordinality as l
    cross join lateral (
      select coalesce(sum((a.value ->> 'amount')::bigint), 0)::bigint as discount
      from jsonb_array_elements(
        case jsonb_typeof(l.value -> 'discount_amounts') when 'array' then l.value -> 'discount_amounts' else '[]' end
      ) as a
    ) as d
  ),

  lines as (
    select
      l.line ->> 'id' as line_id,
      -- Prorations come as invoice items or as items of the subscription.
      coalesce(
        (l.line #>> '{parent,invoice_item_details,proration}')::boolean,
        (l.line #>> '{parent,subscription_item_details,proration}')::boolean
      ) as is_proration,
      jsonb_typeof(l.line #> '{parent,subscription_item_details}') = 'object' as is_period,
      (l.line ->> 'amount')::bigint as amount,
      -- Nothing to pay, say with a promotion code of 100 percent: not for as many as one likes.
      least(
        coalesce((l.line ->> 'quantity')::integer, 1),
        case when l.discount > 0 and l.discount >= (l.line ->> 'amount')::bigint then s.max_free_packages end
      ) as quantity,
      to_timestamp((l.line #>> '{period,start}')::bigint) as period_start,
      to_timestamp((l.line #>> '{period,end}')::bigint) as period_end,
      l.number,
      -- Prices may include taxes: then the line's share of what is left without them, to the last cent of all lines.
      case
        when l.prices = l.net then l.price
        when l.prices <> 0
          then round(l.net * l.prices_so_far / l.prices) - round(l.net * (l.prices_so_far - l.price) / l.prices)
      end::bigint as net_price,
      p.*
    from billed as l
    inner join public.subscription_plans as p
      on credits.stripe_id(l.line #> '{pricing,price_details,price}') = p.stripe_price_id
    cross join credits.billing_settings as s
  ),

  allotments as (
    select
      -- Nothing to pay for a plan that costs something: the trial.
      case when l.amount = 0 then 'trial' else l.line_id end as key,
      l.slug as plan,
      case
        -- Whatever the quantity: whoever asks chooses it, and pays nothing.
        when l.amount = 0 then coalesce(l.trial_credits, l.credits / case
          when l.monthly_allotment then l.interval_count * case l.interval when 'year' then 12 else 1 end
          else 1
        end)
        when l.is_proration then round(l.credits * l.amount::numeric / l.unit_amount)::bigint
        else l.credits * l.quantity
      end as credits,
      l.amount = 0 as is_trial,
      coalesce(l.is_proration, false) as is_proration,
      l.monthly_allotment and l.amount > 0 and not coalesce(l.is_proration, false) as is_monthly,
      l.period_start,
      l.period_end,
      l.rollover,
      coalesce(l.rollover_cap, 9223372036854775807) as cap,
      l.priority,
      l.net_price
    from lines as l
    where
      -- A subscription that begins in the middle of its first period (billing_cycle_anchor) pays a share of it.
      l.is_proration and l.amount > 0 and invoice ->> 'billing_reason' = 'subscription_create'
      or l.is_period
      and not l.is_proration
      and (
        l.amount > 0
        -- One trial, however many items the subscription has.
        or invoice ->> 'billing_reason' = 'subscription_create'
        and l.number = (
          select min(f.number) from lines as f where f.amount = 0 and f.is_period and not f.is_proration
        )
      )
      and (
        invoice ->> 'billing_reason' in ('subscription_create', 'subscription_cycle')
        -- A change in mid-period bills differences only; one that starts a new period (month to year) bills that in
        -- full, beginning at the change.
        or l.period_start >= all(select c.period_start from lines as c where c.is_proration)
      )
  ),

  differences as (
    select
      (array_agg(l.slug order by l.amount desc))[1] as plan,
      round(sum(l.credits * l.amount::numeric / l.unit_amount))::bigint as credits,
      min(l.period_start) as period_start,
      max(l.period_end) as period_end,
      bool_or(l.monthly_allotment and l.amount < 0) as is_monthly,
      (array_agg(l.priority order by l.amount desc))[1] as priority,
      case when count(l.net_price) = count(*) then sum(l.net_price)::bigint end as net_price
    from lines as l
    where l.is_proration and invoice ->> 'billing_reason' = 'subscription_update'
  )

  select a.key, a.plan, a.credits - r.rolling, a.is_trial, a.is_proration, a.is_monthly, a.rollover,
    nullif(a.cap, 9223372036854775807), a.period_start, a.period_end, a.period_end, a.priority,
    a.net_price - round(a.net_price::numeric * r.rolling / a.credits)::bigint
  from allotments as a
  cross join lateral (select case when a.rollover > '0' and not a.is_monthly then least(a.credits, a.cap) else 0 end as rolling) as r
  where a.credits > r.rolling
  union all
  select
    a.key || ':rollover', a.plan, least(a.credits, a.cap), a.is_trial, a.is_proration, false, a.rollover, a.cap,
    a.period_start, a.period_end, a.period_end + a.rollover, a.priority,
    round(a.net_price::numeric * least(a.credits, a.cap) / a.credits)::bigint
  from allotments as a
  where a.rollover > '0' and not a.is_monthly and least(a.credits, a.cap) > 0
  union all
  select
    (invoice ->> 'id') || ':proration', d.plan, d.credits, false, true, d.is_monthly, null, null,
    d.period_start, d.period_end, d.period_end, d.priority, d.net_price
  from differences as d
  where d.credits <> 0;
$$;

comment on function credits.invoice_grants_and_rollover(jsonb) is
'What a paid invoice of a subscription grants: one row per lot, with the key that makes it once, the credits and when '
'they expire. A full line brings the plan''s credits; what of them may roll over is a lot of its own that lives '
'longer. A trial brings its credits once, whatever the quantity; a line that is wholly discounted those of '
'billing_settings.max_free_packages at most. A proration line of a first invoice brings its share, round(credits * '
'amount / unit_amount); those of an update bring their difference in the measure of the money, round(sum(credits * '
'amount / unit_amount)), below 0 for a downgrade. What is_monthly comes month by month (credits.grant_allotments): one '
'row for all of it. Lines of prices that are no plan''s bring nothing. cost_basis: what is paid for the lot without '
'taxes, in minor units, so that all lines sum to the invoice''s; below 0 for a downgrade, null where Stripe does not '
'say.';
