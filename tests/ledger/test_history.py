"""What users read of their ledger, and of their lots: equal to the rows, page by page, and bounded."""

import json
import random
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.clock import DAY, HOUR, MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot

KINDS = ["grant", "spend", "capture", "refund", "clawback", "expiry"]
RARE = ["grant", "refund", "clawback", "expiry"]


def array(values: list[str] | None) -> str | None:
    return None if values is None else "{" + ",".join(values) + "}"


def look_at(ledger: Ledger, rows: int) -> None:
    """Let one call look at so many rows only."""
    ledger.rows(
        "do $$ begin execute replace(pg_get_functiondef('public.credit_history'::regproc), "
        f"'most constant integer := 5000', 'most constant integer := {rows}'); end $$"
    )
    assert ledger.value(
        "select position(%s in pg_get_functiondef('public.credit_history'::regproc)) > 0",
        f"most constant integer := {rows}",
    )


def live(ledger: Ledger, user: str, chance: random.Random, steps: int) -> None:
    """Of every kind some: lots that expire, holds that keep them, refunds before and after, clawbacks."""
    spent: list[dict[str, Any]] = []
    granted: list[int] = []
    account = ledger.account(user)["id"]
    for _ in range(steps):
        match chance.randrange(9):
            case 0:
                life = chance.choice([DAY, 3 * DAY, 30 * DAY])
                granted.append(lot(ledger, user, chance.randint(5, 60), life, chance.choice([10, 50])))
            case 1:
                hold = ledger.as_user(user, "hold_credits", operation="one", quantity=4)
                if chance.random() < 0.7:
                    spent.append(
                        ledger.as_service("capture_hold", account_id=account, hold_id=hold["id"], quantity=3)
                    )
            case 2 if spent:
                row = spent.pop(chance.randrange(len(spent)))
                ledger.as_service(
                    "refund", account_id=account, transaction_id=row["id"],
                    amount=chance.randint(1, -row["amount"]),
                )  # fmt: skip
            case 3 if granted and chance.random() < 0.4:
                ledger.claw_back(user, chance.randint(1, 20), chance.choice([None, granted[-1]]))
            case _:
                operation = "one" if chance.random() < 0.9 else "fraction"
                spent.append(ledger.as_user(user, "consume_credits", operation=operation, quantity=5))
        ledger.pass_time(chance.choice([MINUTE, HOUR, 9 * HOUR]))
        if chance.random() < 0.1:
            ledger.settle(user)


def pages(ledger: Ledger, user: str, between: Any = None, **asked: Any) -> tuple[list[dict[str, Any]], int]:
    """All rows, page by page, and how many calls that took."""
    found: list[dict[str, Any]] = []
    before, calls = None, 0
    while True:
        answer = ledger.as_user(user, "credit_history", before=before, **asked)
        calls += 1
        found += answer["rows"]
        assert len(answer["rows"]) <= asked.get("page_size", 50)
        assert before is None or answer["next"] is None or answer["next"] < before, "it does not move on"
        before = answer["next"]
        if before is None:
            return found, calls
        if between:
            between()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("most", [5, 5000])
def test_pages_are_the_ledger_filtered(own_ledger: Ledger, seed: int, most: int) -> None:
    ledger, chance = own_ledger, random.Random(seed)  # noqa: S311
    look_at(ledger, most)
    user = buyer(ledger, 3000)
    other = buyer(ledger, 100)
    ledger.as_user(other, "consume_credits", operation="one")
    zone = chance.choice(["UTC", "Asia/Tokyo", "America/New_York"])
    ledger.as_user(user, "set_time_zone", zone=zone)
    lot(ledger, user, 7, HOUR)
    live(ledger, user, chance, 90)
    ledger.settle(user)
    live(ledger, user, chance, 5)
    rows = ledger.rows(
        "select t.id, t.kind::text, t.amount, t.balance_after, t.operation, t.quantity, t.created_at "
        "from public.credit_transactions t where t.account_id = %s order by t.id desc",
        ledger.account(user)["id"],
    )
    assert {row["kind"] for row in rows} == set(KINDS)
    for _ in range(40):
        kinds = chance.choice([None, chance.sample(KINDS, chance.randint(1, 3)), chance.sample(RARE, 2)])
        operations = chance.choice([None, None, ["fraction"], ["one"], ["one", "fraction"], ["no_such"]])
        first = chance.choice([None, date(2100, 1, 1) + timedelta(days=chance.randrange(20))])
        end = chance.choice([None, (first or date(2100, 1, 1)) + timedelta(days=chance.randrange(1, 9))])

        def wanted(row: dict[str, Any], *asked: Any) -> bool:
            kinds, operations, first, end = asked
            day = row["created_at"].astimezone(ZoneInfo(zone)).date()
            return bool(
                (kinds is None or row["kind"] in kinds)
                and (operations is None or row["operation"] in operations)
                and (first is None or day >= first)
                and (end is None or day < end)
            )

        found, _ = pages(
            ledger, user, kinds=array(kinds), operations=array(operations), page_size=chance.randint(1, 9),
            **{"from": first, "to": end},
        )  # fmt: skip
        expected = [row for row in rows if wanted(row, kinds, operations, first, end)]
        told = ("id", "kind", "amount", "balance_after", "operation", "quantity")
        assert [[row[name] for name in told] for row in found] == [
            [row[name] for name in told] for row in expected
        ]
    assert ledger.broken() == []


def test_a_row_that_arrives_meanwhile_is_neither_doubled_nor_lost(ledger: Ledger) -> None:
    user = buyer(ledger, 100)
    for _ in range(10):
        ledger.as_user(user, "consume_credits", operation="one")

    def arrive() -> None:
        ledger.as_user(user, "consume_credits", operation="one")

    found, calls = pages(ledger, user, between=arrive, page_size=3)
    assert [row["id"] for row in found] == list(range(11, 0, -1)) and calls == 4


def test_a_row_says_what_people_want_to_know(ledger: Ledger) -> None:
    user = buyer(ledger, 100)
    spend = ledger.as_user(user, "consume_credits", operation="one", metadata={"file": "a.png"})
    ledger.as_service("refund", account_id=spend["account_id"], transaction_id=spend["id"])
    ledger.claw_back(user, 5)
    clawback, refund, spent, grant = ledger.as_user(user, "credit_history")["rows"]
    assert (grant["source"], grant["operation"], clawback["cause"]) == ("purchase", None, "operator")
    assert (refund["related_id"], refund["operation"], refund["source"]) == (spend["id"], "one", None)
    told = {"kind": "spend", "provider": "test", "model": "test", "amount": -1, "unit_price": 1,
            "metadata": {"file": "a.png"}}  # fmt: skip
    assert told.items() <= spent.items()
    assert "idempotency_key" not in spent


def test_a_user_without_an_account_has_an_empty_history_and_no_lots(ledger: Ledger) -> None:
    nobody = ledger.sign_up(confirmed=False)
    answer = ledger.as_user(nobody, "credit_history", before=10**15)
    assert (answer["rows"], answer["next"]) == ([], None)
    answer = ledger.as_user(nobody, "credit_lots")
    assert (answer["balance"], answer["open"], answer["ended"], answer["next"]) == (0, [], [], None)


@pytest.mark.parametrize(
    "asked",
    [
        {"kinds": "{grants}"},
        {"kinds": "{}"},
        {"kinds": "{NULL}"},
        {"operations": "{}"},
        {"operations": "{" + ",".join(["a"] * 51) + "}"},
        {"page_size": 0},
        {"page_size": 201},
        {"page_size": -1},
        {"page_size": None},
        {"before": 0},
        {"before": -(2**63)},
        {"from": "2100-01-02", "to": "2100-01-02"},
        {"from": "infinity"},
        {"to": "-infinity"},
    ],
    ids=str,
)
def test_bad_input_is_refused_with_a_hint(ledger: Ledger, asked: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        ledger.as_user(buyer(ledger, 10), "credit_history", **asked)
    assert refused.value.code == "PT400" and refused.value.hint


def buffers(ledger: Ledger, user: str, call: str) -> int:
    """How many pages a call of the user's reads."""
    claims = json.dumps({"role": "authenticated", "sub": user, "aud": "authenticated", "exp": 8 * 10**9})
    with ledger.connection.transaction():
        ledger.rows("select set_config('request.jwt.claims', %s, true)", claims)
        ledger.rows(f"select {call}")  # reads the catalog
        plan = ledger.value(f"explain (analyze, buffers, format json) select {call}")[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def test_a_page_of_a_large_account_reads_little_whatever_the_filter(own_ledger: Ledger) -> None:
    """Of 150,000 rows the clawback and the expiry are the oldest, and no capture is there."""
    ledger, user = own_ledger, buyer(own_ledger, 10)
    lot(ledger, user, 5, DAY)
    ledger.claw_back(user, 3)
    ledger.as_user(user, "consume_credits", operation="fraction")
    ledger.pass_time(2 * DAY)
    ledger.settle(user)
    account = ledger.account(user)["id"]
    version = ledger.value("select version from public.pricing_tiers where operation = 'one'")
    ledger.rows(
        "insert into public.credit_transactions (account_id, id, kind, amount, balance_after, operation, "
        "quantity, unit_price, price_version, actor, created_at) "
        "select %s, n, 'spend', -1, 0, 'one', 1, 1, %s, 'test', credits.now() + n * interval '1 minute' "
        "from generate_series(%s::bigint, 150000) n",
        account, version, ledger.account(user)["last_entry"] + 1,
    )  # fmt: skip
    ledger.rows(
        "update public.credit_accounts set last_entry = 150000, settled_through = 150000 where id = %s",
        account,
    )
    ledger.rows("select credits.rebuild_usage(%s)", account)
    ledger.rows("vacuum analyze public.credit_transactions")
    for call, found in (
        ("public.credit_history()", 50),
        ("public.credit_history(kinds => '{grant}')", 2),
        ("public.credit_history(kinds => '{clawback,expiry}')", 2),
        ("public.credit_history(operations => '{fraction}')", 1),
        ("public.credit_history(operations => '{no_such}')", 0),
        ("""public.credit_history("to" => '2100-01-02')""", 4),
        ("""public.credit_history("from" => '2100-02-01', "to" => '2100-02-02')""", 50),
        ("""public.credit_history(kinds => '{capture}', "from" => '2100-02-01')""", 0),
        ("public.credit_history(kinds => '{capture}')", 0),
        ("public.credit_history(kinds => '{capture}', before => 100000)", 0),
    ):
        with ledger.connection.transaction():
            ledger.rows("set local plan_cache_mode = force_generic_plan")
            read = buffers(ledger, user, call)
        # All of them fill 2,500 pages, and their index 600.
        assert read < 1200, (call, read)
        claims = json.dumps({"sub": user, "role": "authenticated"})
        with ledger.connection.transaction():
            ledger.rows("select set_config('request.jwt.claims', %s, true)", claims)
            assert len(ledger.value(f"select {call}")["rows"]) == found, call


# -- lots ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lots_are_those_that_a_settlement_would_leave(own_ledger: Ledger, seed: int) -> None:
    ledger, chance = own_ledger, random.Random(seed)  # noqa: S311
    user = buyer(ledger, 3000)
    account = ledger.account(user)["id"]
    for _ in range(12):
        live(ledger, user, chance, 10)
        told = ledger.as_user(user, "credit_lots", page_size=200)
        with ledger.connection.transaction(force_rollback=True):
            ledger.settle(user)
            settled = ledger.lots(user)
            order = ledger.rows(
                "select id from credits.lots_in_burn_order where account_id = %s "
                "order by case when expires_at <= credits.now() then expires_at end nulls last, "
                "burn_position",
                account,
            )
            expired = dict(
                ledger.connection.execute(
                    "select x.grant_id, sum(x.amount)::bigint from credits.credit_allocations x "
                    "join public.credit_transactions t on t.account_id = x.account_id "
                    "and t.id = x.transaction_id where t.kind = 'expiry' and t.account_id = %s group by 1",
                    [account],
                ).fetchall()
            )
            position = ledger.account(user)
        assert [row["id"] for row in told["open"]] == [row["id"] for row in order]
        assert [row["position"] for row in told["open"]] == list(range(1, len(order) + 1))
        assert (told["balance"], told["held"]) == (position["balance"], position["held"])
        seen = {row["id"]: row for row in told["open"] + told["ended"]}
        assert seen.keys() == {row["id"] for row in settled}
        ended = [row["id"] for row in told["ended"]]
        assert ended == sorted(ended, reverse=True)
        for row in settled:
            mine = seen[row["id"]]
            assert (mine["amount"], mine["remaining"]) == (row["amount"], row["remaining"])
            assert mine["expired"] == expired.get(row["id"], 0)
            assert mine["used"] == row["amount"] - row["remaining"] - mine["expired"]
            if row["remaining"]:
                is_over = row["expires_at"] is not None and row["expires_at"] <= ledger.now()
                assert mine["state"] == ("lapsed" if is_over else "active")
            else:
                assert mine["state"] == ("expired" if mine["expired"] else "used")
    assert ledger.broken() == []


def test_ended_lots_come_page_by_page(ledger: Ledger) -> None:
    user = ledger.sign_up()
    for _ in range(5):
        lot(ledger, user, 1, 30 * DAY)
        ledger.as_user(user, "consume_credits", operation="one")
    lot(ledger, user, 4, 30 * DAY)
    seen: list[int] = []
    before = None
    while True:
        answer = ledger.as_user(user, "credit_lots", before=before, page_size=2)
        assert [row["id"] for row in answer["open"]] == [6]
        seen += [row["id"] for row in answer["ended"]]
        before = answer["next"]
        if before is None:
            break
    assert seen == [5, 4, 3, 2, 1]


def test_a_debt_is_told(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    ledger.claw_back(user, 25)
    answer = ledger.as_user(user, "credit_lots")
    assert (answer["balance"], answer["available"], answer["debt"], answer["open"]) == (-15, 0, 15, [])


def standing(ledger: Ledger, user: str) -> list[Any]:
    row = ledger.read_as_user(
        user,
        "select jsonb_build_array(status, expires_next, expires_next_at) from public.user_credits",
    )
    return list(row)


def test_user_credits_says_how_it_stands_and_what_expires_next(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    assert standing(ledger, user) == ["ok", None, None]
    soon = ledger.now() + DAY
    for life in (9 * DAY, DAY, DAY):
        lot(ledger, user, 4, life)
    assert standing(ledger, user)[:2] == ["ok", 8]
    assert standing(ledger, user)[2].startswith(soon.isoformat()[:19])
    ledger.as_user(user, "consume_credits", operation="one", quantity=3)
    assert standing(ledger, user)[:2] == ["ok", 5]
    ledger.pass_time(2 * DAY)
    assert standing(ledger, user)[:2] == ["ok", 4]
    ledger.as_user(user, "consume_credits", operation="one", quantity=9)
    assert standing(ledger, user) == ["low", None, None]
    ledger.as_user(user, "consume_credits", operation="one", quantity=4)
    ledger.as_user(user, "hold_credits", operation="one", quantity=1)
    assert standing(ledger, user)[0] == "empty"
    ledger.claw_back(user, 5)
    assert standing(ledger, user)[0] == "debt"
    ledger.as_service("freeze_account", user_id=user, reason="test")
    assert standing(ledger, user)[0] == "frozen"
    ledger.rows("update credits.billing_settings set low_balance = 0")
    other = buyer(ledger, 1)
    assert standing(ledger, other)[0] == "ok"
