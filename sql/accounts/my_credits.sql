create function public.my_credits() returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  answer jsonb;
begin
  perform credits.caller();
  select
    jsonb_build_object(
      'balance', p.balance,
      'available', p.available,
      'held', p.held,
      'frozen', p.frozen_at is not null,
      'expiring_next', coalesce(
        (
          select jsonb_agg(
            jsonb_build_object('credits', l.remaining, 'expires_at', l.expires_at, 'source', l.source)
            order by l.expires_at, l.id
          )
          from credits.lots_as_of_now(p.account_id) as l
          where l.expires_at > credits.now()
        ),
        '[]'
      ),
      'totals', jsonb_build_object(
        'granted', p.lifetime_granted,
        'spent', p.lifetime_spent,
        'refunded', p.lifetime_refunded,
        'expired', p.lifetime_expired,
        'clawed_back', p.lifetime_clawed_back
      )
    )
  into answer
  from credits.my_position() as p;
  if answer is null then
    perform credits.fail('PT404', 'You have no credit account yet.', '{}', 'It opens with your first spend, hold or grant.');
  end if;
  return answer;
end
$$;

comment on function public.my_credits() is
'The signed-in user''s credits: {balance, available, held, frozen, expiring_next: [{credits, expires_at, source}] '
'soonest first, totals: {granted, spent, refunded, expired, clawed_back}}. Errors: PT403 not signed in, PT404 no '
'account.';

grant execute on function public.my_credits() to authenticated;
