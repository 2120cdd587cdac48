create function credits.claw_back_share(account_id uuid, purchase_id bigint) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  purchase public.purchases;
  refunded bigint;
  disputed bigint;
  gone bigint;
  target bigint;
  is_second boolean;
  lot record;
  figures jsonb;
  receipt text;
begin
  select * into purchase
  from public.purchases as p
  where p.account_id = claw_back_share.account_id and p.id = purchase_id;

  -- A refund that has failed does not count. What a charge tells beyond the refunds that we know, we have yet to hear
  -- of one by one.
  -- (By the purchase, not by an array of its payments: for that each call would be planned anew.)
  select coalesce(sum(r.live + greatest(0, r.told - r.known)), 0), min(r.receipt_url) into refunded, receipt
  from (
    select
      min(c.refunded) as told,
      min(c.receipt_url) as receipt_url,
      coalesce(sum(f.amount), 0) as known,
      coalesce(sum(f.amount) filter (where f.status not in ('failed', 'canceled')), 0) as live
    from credits.stripe_payments as c
    left join credits.stripe_refunds as f on c.payment_intent_id = f.payment_intent_id
    where c.account_id = purchase.account_id and c.purchase_id = purchase.id
    group by c.payment_intent_id
  ) as r;

  -- In another currency than the payment's the bank's figure says nothing of the share: the whole is disputed.
  select coalesce(sum(case when d.currency = purchase.currency then d.amount else purchase.amount end), 0) into disputed
  from credits.stripe_payments as c
  inner join credits.stripe_disputes as d on c.payment_intent_id = d.payment_intent_id
  where c.account_id = purchase.account_id and c.purchase_id = purchase.id and d.takes;

  -- Most purchases are of a package, and no money goes back: what follows would find nothing to take or to give.
  if purchase.subscription_id is null and refunded + disputed = 0 and purchase.credits_clawed_back = 0 then
    return credits.note_netting(purchase, 0, refunded, disputed, receipt);
  end if;

  -- What expired unused is not there to be taken a second time. Nor is what a downgrade took of a lot that has expired
  -- since: of one that is alive it is given back first.
  select coalesce(sum(case t.kind when 'expiry' then -t.amount else credits.left_to_refund(t) end), 0) into gone
  from credits.purchase_grants as g
  inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
  inner join public.credit_transactions as t on g.account_id = t.account_id and g.transaction_id = t.related_id
  left join credits.clawbacks as c on t.account_id = c.account_id and t.id = c.transaction_id
  where
    g.account_id = purchase.account_id
    and g.purchase_id = purchase.id
    and (t.kind = 'expiry' or c.cause = 'downgrade' and l.expires_at <= credits.now());

  is_second := purchase.subscription_id is not null
    and credits.is_second_subscription(purchase.account_id, purchase.subscription_id);
  target := case
    when is_second
      then greatest(purchase.credits_granted - gone, purchase.credits_clawed_back)
    when purchase.amount = 0 then 0
    else least(
      round(purchase.credits_granted::numeric * least(refunded + disputed, purchase.amount) / purchase.amount)::bigint,
      greatest(purchase.credits_granted - gone, purchase.credits_clawed_back)
    )
  end;
  figures := jsonb_build_object(
    'purchase', purchase.id, 'paid', purchase.amount, 'refunded', refunded, 'disputed', disputed,
    'currency', purchase.currency
  );
  if purchase.subscription_id is not null and exists (
    select from credits.allotments as a
    where a.account_id = purchase.account_id and a.purchase_id = purchase.id and a.months is not null
  ) then
    -- Month by month where it came so: what expired unused of one month stands for nothing in another.
    target := 0;
    for lot in
      select
        l.transaction_id,
        t.taken::bigint as taken,
        least(round(l.amount * s.share), greatest(l.amount - t.gone, t.taken))::bigint as target
      from credits.purchase_grants as g
      inner join credits.credit_grants as l on g.account_id = l.account_id and g.transaction_id = l.transaction_id
      cross join lateral (
        select
          coalesce(sum(case r.kind when 'expiry' then -r.amount else credits.left_to_refund(r) end) filter (
            where r.kind = 'expiry' or c.cause = 'downgrade' and l.expires_at <= credits.now()
          ), 0) as gone,
          coalesce(sum(credits.left_to_refund(r)) filter (where c.cause = 'money_back'), 0) as taken
        from public.credit_transactions as r
        left join credits.clawbacks as c on r.account_id = c.account_id and r.id = c.transaction_id
        where r.account_id = l.account_id and r.related_id = l.transaction_id and r.kind in ('expiry', 'clawback')
      ) as t
      -- Each part goes with the money that paid for it; all of what began when the subscription had ended.
      cross join lateral (
        select case
          when is_second or exists (
            select from credits.allotments as a
            inner join public.subscriptions as e on a.account_id = e.account_id and a.subscription_id = e.id
            where
              a.account_id = g.account_id
              and a.purchase_id = g.purchase_id
              and a.key = g.allotment_key
              and e.ended_at <= (
                a.period_start at time zone 'UTC' + make_interval(months => g.month - 1)
              ) at time zone 'UTC'
          ) then 1
          else coalesce(
            (
              select
                sum(o.part * case
                  when o.purchase_id = purchase.id then own.share
                  else least(c.refunded_amount + c.disputed_amount, c.amount) / greatest(c.amount, 1)::numeric
                end) / sum(o.part)
              from credits.allotment_sources as o
              inner join public.purchases as c on o.account_id = c.account_id and o.purchase_id = c.id
              where o.account_id = g.account_id and o.transaction_id = g.transaction_id
            ),
            own.share
          )
        end as share
        from (
          select least(refunded + disputed, purchase.amount) / greatest(purchase.amount, 1)::numeric as share
        ) as own
      ) as s
      where g.account_id = purchase.account_id and g.purchase_id = purchase.id
      order by l.expires_at, l.id
    loop
      target := target + lot.target;
      if lot.target > lot.taken then
        perform credits.release_subscription_debts(purchase.account_id);
        perform credits.claw_back(
          purchase.account_id, lot.target - lot.taken, lot.transaction_id,
          metadata => figures,
          cause => 'money_back',
          purchase_id => purchase.id
        );
      elsif lot.target < lot.taken then
        perform credits.give_back_clawbacks(
          purchase.account_id, 'money_back', purchase.id, lot.taken - lot.target, figures, lot.transaction_id
        );
      end if;
    end loop;
  elsif target > purchase.credits_clawed_back then
    perform credits.release_subscription_debts(purchase.account_id);
    perform credits.take_from_purchase(
      purchase.account_id, purchase.id, target - purchase.credits_clawed_back, figures
    );
  elsif target < purchase.credits_clawed_back then
    perform credits.give_back_clawbacks(
      purchase.account_id, 'money_back', purchase.id, purchase.credits_clawed_back - target, figures
    );
  end if;

  return credits.note_netting(purchase, target, refunded, disputed, receipt);
end
$$;

comment on function credits.claw_back_share(uuid, bigint) is
'Holds a purchase against its refunds and disputes: takes back credits in proportion to the money, round(granted * '
'least(refunded + disputed, paid) / paid), or gives back what is too much; by the difference to what was taken so '
'far, so that it may be called at any time and any number of times; month by month where it came so. Never takes '
'what has expired; takes all of a second subscription''s. It comes before what downgrades take: '
'credits.collect_subscription_debts has to follow. Returns whether anything changed. The caller holds the locks of '
'its payments and of the account.';
