create table credits.provider_costs (
  provider text not null,
  model text not null,
  cost_per_output numeric,
  cost_per_second numeric,
  input_text numeric,
  input_image numeric,
  output_text numeric,
  output_image numeric,
  constraint provider_costs_pkey primary key (provider, model),
  constraint cost_per_output_must_be_0_to_1000000 check (cost_per_output between 0 and 1000000),
  constraint cost_per_second_must_be_0_to_1000000 check (cost_per_second between 0 and 1000000),
  constraint costs_of_tokens_must_be_0_to_1000000 check (
    least(input_text, input_image, output_text, output_image) >= 0
    and greatest(input_text, input_image, output_text, output_image) <= 1000000
  )
);

alter table credits.provider_costs enable row level security;
alter table credits.provider_costs force row level security;
revoke all on table credits.provider_costs from anon, authenticated, service_role;
grant select, insert, update on table credits.provider_costs to pricing_admin;
create policy pricing_admin_edits on credits.provider_costs for all to pricing_admin
using (true) with check (true);

comment on table credits.provider_costs is
'What providers charge us, for the margin report, US dollars. DBAs insert and update rows; clients never see them. '
'What a call cost is its tokens at these prices where the provider counts them; else by the second, else by the '
'output.';
comment on column credits.provider_costs.provider is 'pricing_tiers.provider.';
comment on column credits.provider_costs.model is 'pricing_tiers.model.';
comment on column credits.provider_costs.cost_per_output is
'For one image, text or video. Counts where a call''s own cost is not known, such as when no answer came.';
comment on column credits.provider_costs.cost_per_second is
'For one second of video: times the job''s option duration.';
comment on column credits.provider_costs.input_text is 'For a million tokens of text that the provider was sent.';
comment on column credits.provider_costs.input_image is 'For a million tokens of images that the provider was sent.';
comment on column credits.provider_costs.output_text is 'For a million tokens of text that it made, thoughts included.';
comment on column credits.provider_costs.output_image is 'For a million tokens of images that it made.';
