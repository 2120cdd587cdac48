"""Spans of time count by the moments where they end: months and days of both signs hide nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.clock import DAY
from tests.support.ledger import Ledger, Refused, buyer, lot

# As an interval a day, as moments a year and a half; as an interval a day, from some months on nothing.
LONG, SHORT = "100 years -35999 days", "-1 month 31 days"


@pytest.mark.parametrize(
    "ttl", [LONG, SHORT, "-1 month 30 days 12 hours", "1 month -29 days", "1 second ago"]
)
def test_a_hold_lives_from_a_second_to_the_longest_whatever_the_month(own_ledger: Ledger, ttl: str) -> None:
    """Either refused with a sentence, or its end is within the bounds: from each of 60 days."""
    user, refused = buyer(own_ledger, 1000), 0
    own_ledger.rows("update credits.billing_settings set max_open_holds = 10000")
    for _ in range(60):
        own_ledger.pass_time(DAY)
        try:
            hold = own_ledger.as_user(user, "hold_credits", operation="one", ttl=ttl)
        except Refused as refusal:
            assert (refusal.code, refusal.message) == ("PT400", "ttl must be from 1 second to 24:00:00.")
            refused += 1
        else:
            began, ends = (datetime.fromisoformat(hold[name]) for name in ("created_at", "expires_at"))
            assert timedelta(seconds=1) <= ends - began <= DAY
    assert refused
    assert own_ledger.broken() == []


def test_a_day_has_24_hours_whatever_the_callers_time_zone(own_ledger: Ledger) -> None:
    own_ledger.set_time(datetime(2100, 11, 6, 12, tzinfo=UTC))
    user = buyer(own_ledger, 10)
    own_ledger.rows("set timezone = 'America/New_York'")
    hold = own_ledger.as_user(user, "hold_credits", operation="one", ttl="1 day")
    assert datetime.fromisoformat(hold["expires_at"]) == datetime(2100, 11, 7, 12, tzinfo=UTC)


def test_credits_do_not_outlive_their_expiry_under_a_long_hold(ledger: Ledger) -> None:
    user = ledger.sign_up()
    lot(ledger, user, 10, DAY)
    with pytest.raises(Refused, match="ttl must be"):
        ledger.as_user(user, "hold_credits", operation="one", quantity=10, ttl=LONG)
    ledger.as_user(user, "hold_credits", operation="one", quantity=10, ttl="24 hours")
    ledger.pass_time(DAY)
    assert ledger.as_user(user, "my_credits")["balance"] == 0


SETTINGS = {
    "hold_ttl": [LONG, SHORT, "0", "25 hours"],
    "hold_ttl_max": [LONG, SHORT, "1 minute", "1 month", "100 years -35971 days"],
    "refund_grace": [SHORT, "0", "-1 day", "101 years", "-100 years 36001 days"],
    "signup_bonus_lifetime": [SHORT, "0", "-1 day", "101 years"],
    "stripe_payload_retention": [SHORT, "0", "-1 day", "101 years"],
    "hold_retention": [SHORT, "1 minute", "-1 day", "101 years"],
}


@pytest.mark.parametrize(
    ("setting", "span"), [(setting, span) for setting, spans in SETTINGS.items() for span in spans]
)
def test_a_setting_takes_only_spans_that_always_last(ledger: Ledger, setting: str, span: str) -> None:
    with pytest.raises(Refused) as caught:
        ledger.rows(f"update credits.billing_settings set {setting} = %s", span)
    assert caught.value.code == "23514"
    assert (caught.value.constraint or "").startswith(f"{setting}_must_be_")


@pytest.mark.parametrize("setting", ["hold_ttl", "signup_bonus_lifetime"])
def test_a_setting_takes_nothing_endless(ledger: Ledger, setting: str) -> None:
    with pytest.raises(Refused) as caught:
        ledger.rows(f"update credits.billing_settings set {setting} = 'infinity'")
    # Before version 17 Postgres knows no infinite interval.
    assert caught.value.code in ("23514", "22007")


def test_a_setting_takes_what_lasts(own_ledger: Ledger) -> None:
    own_ledger.rows(
        "update credits.billing_settings set hold_ttl_max = '30 days', hold_ttl = '1 month -3 days', "
        "refund_grace = '2 months', signup_bonus_lifetime = '100 years', hold_retention = '1 hour', "
        "stripe_payload_retention = '1 second'"
    )


@pytest.mark.parametrize(
    ("rollover", "fits"), [("0", True), ("10 years", True), ("1 month", True), ("1 month -30 days", False),
                           ("-100 years 36524 days", False), ("11 years", False), ("-1 second", False)]
)  # fmt: skip
def test_a_rollover_lasts_from_nothing_to_ten_years(own_ledger: Ledger, rollover: str, fits: bool) -> None:
    """As who edits the plans."""
    own_ledger.rows("set role pricing_admin")
    plan = (
        "insert into public.subscription_plans (slug, name, credits, unit_amount, stripe_price_id, rollover) "
        "values ('a', 'A', 1, 1, 'price_a', %s)"
    )
    if fits:
        own_ledger.rows(plan, rollover)
    else:
        with pytest.raises(Refused, match="rollover_must_be_0_to_10_years"):
            own_ledger.rows(plan, rollover)
