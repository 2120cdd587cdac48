create domain credits.offer_name as text
constraint name_must_have_1_to_100_characters check (char_length(btrim(value)) between 1 and 100);

comment on domain credits.offer_name is
'What people read of a package or a plan.';
