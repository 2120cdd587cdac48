create domain credits.offer_quantity as integer
constraint max_quantity_must_be_1_to_1000 check (value between 1 and 1000);

comment on domain credits.offer_quantity is
'How many of a package or a plan one checkout may buy.';
