create function credits.change_allotments(
  account_id uuid,
  purchase_id bigint,
  key text,
  at timestamptz,
  until timestamptz,
  change bigint,
  paid bigint
)
returns table (
  credits bigint,
  expires_at timestamptz,
  cost_basis bigint
)
language plpgsql
set search_path = ''
as $$
declare
  period credits.allotments;
  later bigint;
  spread bigint;
begin
  select a.* into period
  from credits.allotments as a
  inner join public.purchases as p on a.account_id = p.account_id and a.subscription_id = p.subscription_id
  where
    p.account_id = change_allotments.account_id
    and p.id = change_allotments.purchase_id
    and a.period_end = until
    and a.months is not null;
  if not found then
    if not exists (
      select from public.purchases as p
      inner join public.purchases as o on p.account_id = o.account_id and p.subscription_id = o.subscription_id
      where
        p.account_id = change_allotments.account_id
        and p.id = change_allotments.purchase_id
        and o.id <> p.id
        and o.period_end = until
    ) then
      perform credits.fail(
        'PT409', 'The invoice changes a period whose own invoice has not come yet.', '{}',
        'Once that has come, Stripe''s next delivery or retry_stripe_events applies it.'
      );
    end if;
    credits := change;
    expires_at := until;
    cost_basis := paid;
    return next;
    return;
  end if;

  -- Of the month that goes on at once, in the measure of its time; the rest with the months that follow.
  select min(m.ends_at) into expires_at from credits.allotment_months(period) as m where m.ends_at > at;
  expires_at := coalesce(expires_at, until);
  credits := round(
    change * extract(epoch from expires_at - at) / greatest(1, extract(epoch from until - at))
  );
  cost_basis := round(paid::numeric * credits / nullif(change, 0));
  insert into credits.allotments (
    account_id, purchase_id, subscription_id, period_start, period_end, credits, key, cost_basis
  )
  values (
    period.account_id, change_allotments.purchase_id, period.subscription_id, expires_at, period.period_end,
    change - credits, change_allotments.key, paid - cost_basis
  );

  -- What no month can bring, or has brought too much: when this comes late.
  select period.credits + coalesce(sum(c.credits), 0) into spread
  from credits.allotments as c
  where
    c.account_id = period.account_id
    and c.subscription_id = period.subscription_id
    and c.period_end = period.period_end
    and c.months is null;
  select spread - sum(coalesce(m.granted, m.credits)) into later from credits.allotment_months(period) as m;
  if later <> 0 then
    cost_basis := round(paid::numeric * (credits + later) / nullif(change, 0));
    update credits.allotments as a set credits = a.credits - later, cost_basis = paid - change_allotments.cost_basis
    where
      a.account_id = change_allotments.account_id
      and a.purchase_id = change_allotments.purchase_id
      and a.key = change_allotments.key;
    credits := credits + later;
  end if;
  return next;
end
$$;

comment on function credits.change_allotments(uuid, bigint, text, timestamptz, timestamptz, bigint, bigint) is
'What a change of plan at a moment, within the period that ends then, brings (or takes, below 0) at once, and when '
'that expires: all of it, or where the period is granted month by month the share of the month that goes on; the '
'rest changes the months that follow; so for what was paid. PT409 while the period is not known. The caller holds '
'the account''s lock.';
