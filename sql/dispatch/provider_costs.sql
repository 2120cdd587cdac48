create table credits.provider_costs (
  provider text not null,
  model text not null,
  cost_per_unit numeric not null,
  constraint provider_costs_pkey primary key (provider, model),
  constraint cost_per_unit_must_be_0_to_1000000 check (cost_per_unit between 0 and 1000000)
);

alter table credits.provider_costs enable row level security;
alter table credits.provider_costs force row level security;
revoke all on table credits.provider_costs from anon, authenticated, service_role;
grant select, insert, update on table credits.provider_costs to pricing_admin;
create policy pricing_admin_edits on credits.provider_costs for all to pricing_admin
using (true) with check (true);

comment on table credits.provider_costs is
'What providers charge us, for the margin report. DBAs insert and update rows; clients never see them.';
comment on column credits.provider_costs.provider is 'pricing_tiers.provider.';
comment on column credits.provider_costs.model is 'pricing_tiers.model.';
comment on column credits.provider_costs.cost_per_unit is
'US dollars for one unit of the operation. Counts where a call''s own cost is not known.';
