create domain credits.offer_credits as bigint
constraint credits_must_be_1_to_1000000000 check (value between 1 and 1000000000);

comment on domain credits.offer_credits is
'Credits that one package, or one period of a plan, brings.';
