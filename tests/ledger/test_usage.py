"""What users see of their usage: equal to the ledger, whatever the zone, the range and what is settled."""

import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.ledger import Ledger, Refused, buyer, small_batches

FIGURES = ("transactions", "quantity", "spent", "refunded", "net_by_day_of_use")
QUERIES = int(os.environ.get("USAGE_EXAMPLES", "40"))
# America/New_York goes forward on 2100-03-14, the others back within weeks.
SPRING = datetime(2100, 3, 8, tzinfo=UTC)
ZONES = (
    "UTC", "America/New_York", "Asia/Tokyo", "Pacific/Apia", "Asia/Kathmandu", "Pacific/Chatham",
    "Australia/Lord_Howe", "Asia/Kolkata",
)  # fmt: skip


def set_prices(ledger: Ledger) -> None:
    ledger.rows(
        "insert into public.pricing_tiers (operation, provider, model, credits_per_unit) values "
        "('sketch', 'acme', 'small', 2), ('paint', 'acme', 'large', 7), ('film', 'zeta', 'large', 11)"
    )


def live(ledger: Ledger, user: str, chance: random.Random, steps: int) -> None:
    """Spends, holds, captures and refunds over some days, settled now and then."""
    spent: list[dict[str, Any]] = []
    for _ in range(steps):
        operation = chance.choice(["sketch", "paint", "film", "one", "fraction"])
        match chance.randrange(6):
            case 0:
                hold = ledger.as_user(user, "hold_credits", operation=operation, quantity=3)
                spent.append(
                    ledger.as_service(
                        "capture_hold", account_id=hold["account_id"], hold_id=hold["id"],
                        quantity=chance.randint(1, 3),
                    )
                )  # fmt: skip
            case 1 if spent:
                row = chance.choice(spent)
                left = -row["amount"] - row.get("returned", 0)
                if left:
                    part = chance.randint(1, left)
                    row["returned"] = row.get("returned", 0) + part
                    ledger.as_service(
                        "refund", account_id=row["account_id"], transaction_id=row["id"], amount=part
                    )
            case _:
                quantity = chance.randint(1, 4)
                spent.append(ledger.as_user(user, "consume_credits", operation=operation, quantity=quantity))
        ledger.pass_time(chance.choice([MINUTE, 20 * MINUTE, 3 * HOUR, 11 * HOUR]))
        if chance.random() < 0.1:
            ledger.settle(user)


def entries(ledger: Ledger, user: str) -> list[dict[str, Any]]:
    """The ledger with what prices say, to add up by hand."""
    return ledger.rows(
        "select t.id, t.kind::text, t.amount, t.quantity, t.related_id, t.created_at, "
        "h.new ->> 'operation' as operation, h.new ->> 'provider' as provider, h.new ->> 'model' as model "
        "from public.credit_transactions t join public.credit_accounts a on a.id = t.account_id "
        "left join credits.pricing_tier_history h on h.version = t.price_version "
        "where a.user_id = %s order by t.id",
        user,
    )


def added_up(
    rows: list[dict[str, Any]],
    zone: str,
    first: date,
    end: date,
    by: str,
    wanted: dict[str, list[str]],
    bucket: Callable[[datetime], Any],
) -> tuple[Counter[Any], Counter[Any]]:
    """Figures by (group, bucket, name) and by (bucket, name) of a range."""
    by_id = {row["id"]: row for row in rows}
    cells: Counter[Any] = Counter()
    whole: Counter[Any] = Counter()

    def add(spend: dict[str, Any], at: datetime, **figures: int) -> None:
        local = at.astimezone(ZoneInfo(zone))
        if first <= local.date() < end and all(spend[name] in values for name, values in wanted.items()):
            for name, value in figures.items():
                cells[spend[by], bucket(local), name] += value
                whole[bucket(local), name] += value

    for row in rows:
        if row["kind"] in ("spend", "capture"):
            amount = -row["amount"]
            add(row, row["created_at"], transactions=1, quantity=row["quantity"], spent=amount)
            add(row, row["created_at"], net_by_day_of_use=amount)
        elif row["kind"] == "refund":
            spend = by_id[row["related_id"]]
            add(spend, row["created_at"], refunded=row["amount"])
            add(spend, spend["created_at"], net_by_day_of_use=-row["amount"])
    return cells, whole


def compare(
    answer: dict[str, Any], rows: list[dict[str, Any]], zone: str, wanted: dict[str, list[str]]
) -> None:
    """Hold a whole answer against the ledger."""
    first, end = (date.fromisoformat(answer[name]) for name in ("from", "to"))
    grain, by = answer["grain"], answer["by"]
    if grain == "hour":
        starts: list[Any] = [datetime.fromisoformat(start) for start in answer["starts"]]
    else:
        starts = [date.fromisoformat(start) for start in answer["starts"]]

    def bucket(local: datetime) -> int:
        at: Any = local if grain == "hour" else local.date()
        return max(n for n, start in enumerate(starts) if start <= at)

    cells, whole = added_up(rows, zone, first, end, by, wanted, bucket)
    for name in FIGURES:
        line = [whole[n, name] for n in range(len(starts))]
        assert answer["series"][name] == line
        assert answer["totals"][name] == sum(line)
    groups = {group["group"]: group for group in answer["groups"]}
    assert groups.keys() == {group for group, _, _ in cells}
    for group, told in groups.items():
        for name in FIGURES:
            line = [cells[group, n, name] for n in range(len(starts))]
            assert told["series"][name] == line
            assert told["totals"][name] == sum(line)
    spent = [group["totals"]["spent"] for group in answer["groups"]]
    assert spent == sorted(spent, reverse=True)
    if answer["before"]:
        start, stop = (date.fromisoformat(answer["before"][name]) for name in ("from", "to"))
        assert stop == first
        cells, whole = added_up(rows, zone, start, stop, by, wanted, lambda _: 0)
        assert answer["before"]["totals"] == {name: whole[0, name] for name in FIGURES}
        told = {group["group"]: group["totals"] for group in answer["before"]["groups"]}
        assert told == {
            group: {name: cells[group, 0, name] for name in FIGURES} for group in {key[0] for key in cells}
        }


@pytest.mark.parametrize("seed", range(len(ZONES) // 2))
def test_every_figure_equals_the_ledger(own_ledger: Ledger, seed: int) -> None:
    ledger, chance = own_ledger, random.Random(seed)  # noqa: S311
    small_batches(ledger, 7)
    set_prices(ledger)
    ledger.set_time(SPRING)
    zones = ZONES[2 * seed : 2 * seed + 2]
    user = buyer(ledger, 100_000)
    other = buyer(ledger, 1000)
    ledger.as_user(other, "consume_credits", operation="film", quantity=5)
    if zones[0] != "UTC":
        ledger.as_user(user, "set_time_zone", zone=zones[0])
    live(ledger, user, chance, 60)
    ledger.rows(
        "update public.pricing_tiers set provider = 'zeta', credits_per_unit = 3 where operation = 'sketch'"
    )
    live(ledger, user, chance, 60)
    assert ledger.broken() == []

    for zone in zones:
        if zone != ledger.as_user(user, "credit_usage")["zone"]:
            assert ledger.as_user(user, "set_time_zone", zone=zone) == {"zone": zone, "changed": True}
            live(ledger, user, chance, 10)
        ledger.as_user(user, "consume_credits", operation="paint")
        assert ledger.account(user)["unsettled_since"] is not None
        rows = entries(ledger, user)
        for _ in range(QUERIES):
            grain = chance.choice(["hour", "day", "week", "month"])
            first = (SPRING + chance.randrange(-40, 45) * DAY).date()
            end = first + timedelta(days=chance.randint(1, 7 if grain == "hour" else 60))
            wanted = {
                name: chance.sample(values, chance.randint(1, 2))
                for name, values in {
                    "operation": ["sketch", "paint", "film", "one"], "provider": ["acme", "zeta", "test"],
                    "model": ["small", "large", "test"],
                }.items()
                if chance.random() < 0.2
            }  # fmt: skip
            answer = ledger.as_user(
                user, "credit_usage", **{"from": first, "to": end}, grain=grain, filter=wanted,
                by=chance.choice(["operation", "provider", "model"]), compare=chance.random() < 0.5,
            )  # fmt: skip
            assert answer["zone"] == zone
            compare(answer, rows, zone, wanted)
    assert ledger.broken() == []


def usage(ledger: Ledger, user: str, first: str, end: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = ledger.as_user(user, "credit_usage", **{"from": first, "to": end}, **more)
    return answer


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2100-03-14", 23),
        ("America/New_York", "2100-11-07", 25),
        ("Asia/Tokyo", "2100-03-14", 24),
        ("Asia/Kathmandu", "2100-03-14", 24),
        # Half an hour back, at two: the hour from one takes an hour and a half, told as two.
        ("Australia/Lord_Howe", "2100-04-04", 25),
    ],
)
def test_days_of_a_change_of_clocks(ledger: Ledger, zone: str, day: str, hours: int) -> None:
    user = buyer(ledger, 10)
    ledger.as_user(user, "set_time_zone", zone=zone)
    after = str(date.fromisoformat(day) + timedelta(days=1))
    answer = usage(ledger, user, day, after, grain="hour")
    starts = [datetime.fromisoformat(start).astimezone(ZoneInfo(zone)) for start in answer["starts"]]
    assert len(starts) == hours
    instants = [start.astimezone(UTC) for start in starts]
    assert instants == sorted(instants) and {str(start.date()) for start in starts} == {day}
    assert all(len(line) == hours for line in answer["series"].values())


def test_a_day_that_never_was(ledger: Ledger) -> None:
    """The island went over the date line."""
    user = buyer(ledger, 10)
    ledger.as_user(user, "set_time_zone", zone="Pacific/Apia")
    for grain in ("day", "hour"):
        answer = usage(ledger, user, "2011-12-30", "2011-12-31", grain=grain)
        assert (answer["starts"], answer["series"]["spent"]) == (["2011-12-30"], [0])


def test_weeks_and_months_are_cut_by_the_range(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    weeks = usage(ledger, user, "2100-02-25", "2100-03-10", grain="week")
    assert weeks["starts"] == ["2100-02-25", "2100-03-01", "2100-03-08"]
    months = usage(ledger, user, "2100-02-25", "2100-04-02", grain="month")
    assert months["starts"] == ["2100-02-25", "2100-03-01", "2100-04-01"]


def test_the_period_before_is_as_many_days_or_whole_months(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    for first, end, before in (
        ("2100-03-02", "2100-03-12", "2100-02-20"),
        ("2100-03-01", "2100-04-01", "2100-02-01"),
        ("2100-01-01", "2100-04-01", "2099-10-01"),
        ("2100-01-01", "2101-01-01", "2099-01-01"),
    ):
        answer = usage(ledger, user, first, end, compare=True)
        assert (answer["before"]["from"], answer["before"]["to"]) == (before, first)
    assert usage(ledger, user, "2100-03-01", "2100-04-01")["before"] is None


def test_left_out_it_is_the_30_days_through_today_in_the_users_zone(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    ledger.set_time(datetime(2100, 5, 5, 20, tzinfo=UTC))
    answer = ledger.as_user(user, "credit_usage")
    assert (answer["from"], answer["to"], answer["zone"]) == ("2100-04-06", "2100-05-06", "UTC")
    ledger.as_user(user, "set_time_zone", zone="Asia/Tokyo")
    answer = ledger.as_user(user, "credit_usage")
    assert (answer["from"], answer["to"]) == ("2100-04-07", "2100-05-07")
    hours = ledger.as_user(user, "credit_usage", grain="hour")
    assert (hours["from"], hours["to"]) == ("2100-05-06", "2100-05-07")


def test_a_user_without_an_account_gets_zeros(ledger: Ledger) -> None:
    nobody = ledger.sign_up(confirmed=False)
    assert ledger.rows("select 1 from public.credit_accounts where user_id = %s", nobody) == []
    answer = usage(ledger, nobody, "2100-03-01", "2100-03-03", compare=True)
    assert answer["groups"] == [] and answer["series"]["spent"] == [0, 0]
    assert answer["totals"] == answer["before"]["totals"] == dict.fromkeys(FIGURES, 0)


@pytest.mark.parametrize(
    "asked",
    [
        {"from": "2100-03-01", "to": "2100-03-01"},
        {"from": "2100-03-02", "to": "2100-03-01"},
        {"from": "2100-03-01", "to": "2102-03-02"},
        {"from": "2100-03-01", "to": "2100-03-09", "grain": "hour"},
        {"from": "-infinity", "to": "infinity"},
        {"from": "1999-12-31", "to": "2000-01-02"},
        {"from": "0001-01-01 BC"},
        {"to": "5874897-12-31"},
        {"grain": "minute"},
        {"grain": None},
        {"by": "member"},
        {"by": "key"},
        {"by": "account_id"},
        {"by": None},
        {"filter": {"metadata": "x"}},
        {"filter": {"operation": []}},
        {"filter": {"operation": [1]}},
        {"filter": {"operation": {"a": 1}}},
        {"filter": {"operation": ["one"] * 51}},
        {"filter": {"operation": "no_such"}},
        {"filter": {"provider": ["test", "no_such"]}},
        {"filter": ["operation"]},
    ],
    ids=str,
)
def test_what_it_does_not_know_is_refused_with_a_hint(ledger: Ledger, asked: dict[str, Any]) -> None:
    user = buyer(ledger, 10)
    with pytest.raises(Refused) as refused:
        ledger.as_user(user, "credit_usage", **asked)
    assert refused.value.code == "PT400" and refused.value.hint


def test_a_price_that_is_still_to_come_cannot_be_guessed(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    ledger.rows(
        "insert into public.pricing_tiers "
        "(operation, provider, model, credits_per_unit, effective_from, active) "
        "values ('secret', 'acme', 'next', 1, '2100-06-01', true), "
        "('hidden', 'acme', 'next', 1, now(), false)"
    )
    for name in ("secret", "hidden", "no_such"):
        with pytest.raises(Refused) as refused:
            ledger.as_user(user, "credit_usage", filter={"operation": name})
        assert refused.value.message == "There is no such operation."


# -- time zones ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone",
    ["", "Mars/Olympus", "Foo/Bar+3", "+02:00", "EST5EDT,M3.2.0,M11.1.0", "posix/Asia/Tokyo", "CEST",
     "localtime",      "Asia/Tokyo; drop table x", "../../etc/passwd", "A" * 100_000, None],
    ids=lambda zone: str(zone)[:20],
)  # fmt: skip
def test_an_unknown_zone_is_refused(ledger: Ledger, zone: str | None) -> None:
    with pytest.raises(Refused) as refused:
        ledger.as_user(buyer(ledger, 10), "set_time_zone", zone=zone)
    assert refused.value.code == "PT400" and "Intl" in refused.value.hint


def test_zones_of_browsers_are_known(ledger: Ledger) -> None:
    for name in ("Africa/Porto-Novo", "America/Argentina/Buenos_Aires", "Etc/GMT+12", "UTC", "asia/tokyo"):
        assert ledger.value("select credits.is_zone(%s)", name) is True
    for zone in ("Etc/GMT+99", "Etc/GMT-15", "America/New_York4"):
        assert ledger.value("select credits.is_zone(%s)", zone) is False


def test_the_same_zone_costs_nothing_and_changes_are_limited(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    for zone in ("Asia/Tokyo", "UTC", "Asia/Tokyo", "UTC", "Asia/Tokyo"):
        assert ledger.as_user(user, "set_time_zone", zone=zone) == {"zone": zone, "changed": True}
        assert ledger.as_user(user, "set_time_zone", zone=zone) == {"zone": zone, "changed": False}
    with pytest.raises(Refused) as refused:
        ledger.as_user(user, "set_time_zone", zone="UTC")
    assert refused.value.code == "PT429"
    assert refused.value.details == {"limit": 5, "retry_after": 86400}
    assert ledger.as_user(user, "set_time_zone", zone="Asia/Tokyo")["changed"] is False
    ledger.pass_time(DAY)
    assert ledger.as_user(user, "set_time_zone", zone="UTC")["changed"] is True
    ledger.rows("update credits.billing_settings set max_time_zone_changes = 0")
    with pytest.raises(Refused) as refused:
        ledger.as_user(user, "set_time_zone", zone="Asia/Tokyo")
    assert refused.value.code == "PT429"


def test_an_account_of_very_many_rows_asks_the_operator(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    account = ledger.account(user)["id"]
    ledger.settle(user)
    ledger.rows(
        "update public.credit_accounts set last_entry = 250001, settled_through = 250001 where id = %s",
        account,
    )
    with pytest.raises(Refused) as refused:
        ledger.as_user(user, "set_time_zone", zone="Asia/Tokyo")
    assert refused.value.code == "PT409"
    ledger.rows("select credits.set_account_zone(%s, 'Asia/Tokyo')", account)
    assert ledger.as_user(user, "credit_usage")["zone"] == "Asia/Tokyo"


def test_verify_ledger_misses_what_was_changed_and_a_rebuild_mends_it(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 100)
    spend = ledger.as_user(user, "consume_credits", operation="one", quantity=3)
    ledger.as_service("refund", account_id=spend["account_id"], transaction_id=spend["id"], amount=1)
    ledger.settle(user)
    told = ["the usage of a day is the sum of its spends, captures and refunds"]
    for change in (
        "update credits.usage_days set spent = spent + 1",
        "update credits.usage_days set refunded_of = 0",
        "update credits.usage_days set day = day + 1",
        "delete from credits.usage_days",
        "insert into credits.usage_days "
        "select id, '2100-02-02', 1, 1, 1, 1, 0, 0 from public.credit_accounts",
    ):
        ledger.rows(change)
        assert ledger.broken() == told
        assert ledger.broken(user) == told
        ledger.rows("select credits.rebuild_usage(%s)", spend["account_id"])
        assert ledger.broken() == []


def test_operators_see_all_days_as_of_now(own_ledger: Ledger) -> None:
    ledger, users = own_ledger, [buyer(own_ledger, 100) for _ in range(2)]
    for n, user in enumerate(users):
        ledger.as_user(user, "consume_credits", operation="one", quantity=n + 1)
    ledger.settle(users[0])
    seen = ledger.rows(
        "select day::text, operation, provider, model, transactions, spent "
        "from credits.daily_usage order by spent"
    )
    assert [list(row.values()) for row in seen] == [
        ["2100-01-01", "one", "test", "test", 1, 1], ["2100-01-01", "one", "test", "test", 1, 2],
    ]  # fmt: skip
