create table credits.stripe_prices (
  id text primary key,
  price jsonb,
  checked_at timestamptz not null,
  constraint id_must_start_with_price check (id ~ '^price_[A-Za-z0-9_]+$')
);

alter table credits.stripe_prices enable row level security;
alter table credits.stripe_prices force row level security;
revoke all on table credits.stripe_prices from anon, authenticated, service_role;

comment on table credits.stripe_prices is
'Stripe''s Prices as they were when they were last asked for, to hold the rows that name them against.';
comment on column credits.stripe_prices.id is 'Stripe''s price_… id.';
comment on column credits.stripe_prices.price is 'The Price; null when Stripe has none of that id.';
comment on column credits.stripe_prices.checked_at is 'When Stripe was asked.';
