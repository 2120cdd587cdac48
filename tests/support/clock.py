"""The clocks of the tests: the one way in which a test decides what time the ledger takes it to be."""

from datetime import timedelta

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))

# A clock that stands still until a test moves it. It starts after any wall clock, so that nothing made before
# is in its future. Only the owner of credits.now() can do this; test_clock.py shows that nobody else can.
CLOCK = """
create schema clock;
create table clock.clock (at timestamptz not null);
insert into clock.clock values ('2100-01-01 00:00:00+00');
grant usage on schema clock to public;
grant select on clock.clock to public;
create or replace function credits.now() returns timestamptz language sql volatile set search_path = ''
as 'select at from clock.clock';
"""

# The wall clock, as far ahead of it as the local Stripe's: what a period brought expires when it ends.
CLOCK_AHEAD = """
create schema clock;
create table clock.ahead (by interval not null);
insert into clock.ahead values ('0');
grant usage on schema clock to public;
grant select on clock.ahead to public;
create or replace function credits.now() returns timestamptz language sql volatile set search_path = ''
as 'select clock_timestamp() + by from clock.ahead';
"""
