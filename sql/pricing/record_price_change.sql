create function credits.record_price_change() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'DELETE' then
    insert into credits.pricing_tier_history (tier_id, action, old) values (old.id, 'delete', to_jsonb(old));
  elsif tg_op = 'INSERT' then
    insert into credits.pricing_tier_history (version, tier_id, action, new)
    values (new.version, new.id, 'insert', to_jsonb(new));
  elsif new.version <> old.version then
    insert into credits.pricing_tier_history (version, tier_id, action, old, new)
    values (new.version, new.id, 'update', to_jsonb(old), to_jsonb(new));
  end if;
  return null;
end
$$;

comment on function credits.record_price_change() is 'Writes each change of a price to credits.pricing_tier_history.';

create trigger record_price_change after insert or update or delete on public.pricing_tiers
for each row execute function credits.record_price_change();
