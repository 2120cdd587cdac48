create domain credits.currency_code as text
constraint currency_must_be_an_iso_4217_code_in_lower_case check (value ~ '^[a-z]{3}$');

comment on domain credits.currency_code is
'A currency as Stripe takes it: usd.';
