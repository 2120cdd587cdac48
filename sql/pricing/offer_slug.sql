create domain credits.offer_slug as text
constraint slug_must_be_lower_case_words_of_1_to_63_letters check (value ~ '^[a-z][a-z0-9_-]{0,62}$');

comment on domain credits.offer_slug is
'What names a package or a plan in code and links.';
