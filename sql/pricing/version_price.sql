create function credits.version_price() returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  moment timestamptz := credits.now();
begin
  perform credits.check_terms(new.terms, new.unit);
  if tg_op = 'UPDATE' then
    if new is not distinct from old then
      return new;
    end if;
    -- A price in force that is edited with a future date: what is in force stays in a row of its own until then.
    if old.active and old.effective_from <= moment and new.effective_from > moment then
      insert into public.pricing_tiers (
        operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms
      )
      values (
        old.operation, old.provider, old.model, old.unit, old.credits_per_unit,
        -- The old date is still taken by the row that is being changed.
        old.effective_from + interval '1 microsecond', true, old.metadata, old.terms
      );
    end if;
  end if;
  new.version := nextval(pg_get_serial_sequence('credits.pricing_tier_history', 'version'));
  return new;
end
$$;

comment on function credits.version_price() is
'Gives each changed price a new version, and keeps the price in force when an edit schedules its successor. PT400: its '
'terms are not as credits.check_terms wants them.';

create trigger version_price before insert or update on public.pricing_tiers
for each row execute function credits.version_price();
