create domain credits.offer_amount as bigint
constraint unit_amount_must_be_1_to_99999999_minor_units check (value between 1 and 99999999);

comment on domain credits.offer_amount is
'What a package, or a period of a plan, costs, in minor units of its currency: as much as Stripe takes.';
