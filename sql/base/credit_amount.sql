create domain credits.credit_amount as bigint
constraint must_be_0_to_a_quadrillion check (value between 0 and 1000000000000000);

comment on domain credits.credit_amount is
'A number of credits that cannot be negative. A domain, because it is checked only where a statement assigns it: a '
'CHECK of the table is read from the catalog and planned anew by every spend.';
