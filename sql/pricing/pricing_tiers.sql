create table public.pricing_tiers (
  id bigint generated always as identity primary key,
  operation text not null,
  provider text not null,
  model text not null,
  unit text not null default 'request',
  credits_per_unit numeric not null,
  effective_from timestamptz not null default now(),
  active boolean not null default true,
  metadata jsonb not null default '{}',
  version bigint not null,
  terms jsonb not null default '{}',
  constraint pricing_tiers_operation_effective_from_key unique (operation, effective_from),
  constraint operation_must_be_snake_case_of_1_to_63_letters check (operation ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint provider_must_have_1_to_100_characters check (char_length(btrim(provider)) between 1 and 100),
  constraint model_must_have_1_to_100_characters check (char_length(btrim(model)) between 1 and 100),
  constraint unit_must_have_1_to_30_characters check (char_length(btrim(unit)) between 1 and 30),
  -- NaN and Infinity are greater than every number, so the upper bound refuses them.
  constraint credits_per_unit_must_be_over_0_and_at_most_1000000 check (
    credits_per_unit > 0 and credits_per_unit <= 1000000
  ),
  constraint credits_per_unit_must_have_at_most_4_decimals check (scale(credits_per_unit) <= 4),
  constraint effective_from_must_be_a_real_time check (isfinite(effective_from)),
  constraint metadata_must_be_an_object_of_at_most_8_kib check (
    jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 8192
  ),
  -- Where they would not count.
  constraint deadline_seconds_and_charge_refusals_belong_in_terms check (
    not metadata ?| array['deadline_seconds', 'charge_refusals']
  )
);

alter table public.pricing_tiers enable row level security;
alter table public.pricing_tiers force row level security;
revoke all on table public.pricing_tiers from anon, authenticated, service_role;
revoke all on sequence public.pricing_tiers_id_seq from anon, authenticated, service_role;
grant select on table public.pricing_tiers to anon, authenticated, service_role, pricing_admin;
grant insert (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms)
on table public.pricing_tiers to pricing_admin;
grant update (operation, provider, model, unit, credits_per_unit, effective_from, active, metadata, terms)
on table public.pricing_tiers to pricing_admin;

comment on table public.pricing_tiers is
'Prices: what one unit of an operation costs, from when. DBAs insert and update rows; the price in force is the '
'active row with the latest effective_from that has come. Clients see the prices in force, one row per operation.';
comment on column public.pricing_tiers.operation is 'What the app sells and callers name, such as image_edit.';
comment on column public.pricing_tiers.provider is
'Who does the work, such as openai. The app''s routing, not the caller''s.';
comment on column public.pricing_tiers.model is 'The provider''s model. Change it when the provider retires one.';
comment on column public.pricing_tiers.unit is 'What quantity counts: image, second, request.';
comment on column public.pricing_tiers.credits_per_unit is
'Credits for one unit: over 0, at most 1,000,000, up to 4 decimals. A call costs ceil(credits_per_unit * quantity).';
comment on column public.pricing_tiers.effective_from is
'When the row starts to count; now when left out. Set in the future, it takes effect by itself.';
comment on column public.pricing_tiers.active is
'False takes the row out; an operation with no active row is not sold.';
comment on column public.pricing_tiers.metadata is
'A JSON object for the app, such as a picture for its shop. Nothing here reads it.';
comment on column public.pricing_tiers.terms is
'What a generation may ask for, and what that adds to credits_per_unit; see credits.check_terms.';
comment on column public.pricing_tiers.version is
'Set by the database, new with every change. Quotes, holds and ledger rows name it; credits.pricing_tier_history has '
'it.';
