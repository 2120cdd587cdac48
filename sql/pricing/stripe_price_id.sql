create domain credits.stripe_price_id as text
constraint stripe_price_id_must_start_with_price check (value ~ '^price_[A-Za-z0-9_]+$');

comment on domain credits.stripe_price_id is
'Stripe''s id of a Price.';
