"""An id names a row together with its account only. Two accounts that have lived alike have the same ids for
everything: what is done to one must neither touch the other nor count what the other did.
"""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.ledger import Ledger, Refused, lot
from tests.support.studio import Studio

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TABLES = (
    "public.credit_transactions", "credits.credit_grants", "credits.credit_allocations",
    "credits.ledger_seals", "public.credit_holds", "public.generation_jobs", "credits.usage_logs",
    "credits.operator_entries",
)  # fmt: skip


class Twin:
    """One of two accounts with the same ids."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.user = ledger, ledger.sign_up()
        self.account = str(ledger.account(self.user)["id"])

    def seen(self) -> dict[str, Any]:
        """Everything of the account's."""
        rows = {
            table: self.ledger.value(
                f"select jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text) from {table} as t "
                "where account_id = %s",
                self.account,
            )
            for table in TABLES
        }
        return rows | {"account": self.ledger.account(self.user)}

    def spend(self, quantity: int) -> dict[str, Any]:
        row: dict[str, Any] = self.ledger.as_user(
            self.user, "consume_credits", operation="one", quantity=quantity
        )
        return row

    def hold(self, quantity: int) -> dict[str, Any]:
        row: dict[str, Any] = self.ledger.as_user(
            self.user, "hold_credits", operation="one", quantity=quantity
        )
        return row

    def act(self, function: str, **arguments: Any) -> dict[str, Any]:
        """An RPC of operators that names a row of the account's."""
        row: dict[str, Any] = self.ledger.as_service(function, account_id=self.account, **arguments)
        return row

    def remaining(self) -> list[int]:
        """What is left in the lots."""
        self.ledger.settle(self.user)
        return [row["remaining"] for row in self.ledger.lots(self.user)]


@pytest.fixture
def twins(ledger: Ledger) -> tuple[Twin, Twin]:
    return Twin(ledger), Twin(ledger)


def settled(*twins: Twin) -> None:
    """So that a settlement is not what changes one of them."""
    for twin in twins:
        twin.ledger.settle(twin.user)


def same_hold(one: Twin, other: Twin, quantities: tuple[int, int] = (3, 5)) -> str:
    """A hold of each, with one id."""
    hold, twin = one.hold(quantities[0])["id"], other.hold(quantities[1])["id"]
    one.ledger.rows("update public.credit_holds set id = %s where id = %s", hold, twin)
    return str(hold)


def test_ids_are_numbers_within_the_account(twins: tuple[Twin, Twin]) -> None:
    for twin in twins:
        for number in (1, 2):
            lot(twin.ledger, twin.user, 10, DAY)
            assert twin.spend(1)["id"] == 2 * number
        settled(twin)
        assert [row["id"] for row in twin.ledger.lots(twin.user)] == [1, 2]
        assert twin.ledger.account(twin.user)["last_entry"] == 4


def test_a_refund(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    for twin, size in ((one, 6), (other, 9)):
        for _ in range(2):
            lot(twin.ledger, twin.user, 5, DAY)
        assert twin.spend(size)["id"] == 3
    other.act("refund", transaction_id=3, amount=2)
    settled(*twins)
    before = other.seen()
    # Nothing of the other's refund counts here.
    assert one.act("refund", transaction_id=3, amount=1)["amount"] == 1
    assert one.act("refund", transaction_id=3)["amount"] == 5
    assert one.remaining() == [5, 5]
    assert other.seen() == before
    assert other.act("refund", transaction_id=3)["amount"] == 7
    assert other.remaining() == [5, 5]
    assert one.ledger.broken() == []


def test_refunds_of_two_spends(twins: tuple[Twin, Twin]) -> None:
    """A refund of each has one number, of different spends: what it gave back counts for its own only."""
    one, other = twins
    for twin in twins:
        lot(twin.ledger, twin.user, 10, DAY)
        for size in (4, 5):
            twin.spend(size)
    assert other.act("refund", transaction_id=2, amount=1)["id"] == 4
    assert one.act("refund", transaction_id=3, amount=3)["id"] == 4
    one.act("refund", transaction_id=2)
    assert one.remaining() == [8]
    assert len(one.ledger.lots(one.user)) == 1
    assert one.ledger.broken() == []


def test_a_refund_whose_lots_have_expired(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    for twin in twins:
        lot(twin.ledger, twin.user, 10, MINUTE)
        lot(twin.ledger, twin.user, 10, DAY)
        twin.spend(14)
    one.ledger.pass_time(2 * MINUTE)
    settled(*twins)
    other.act("refund", transaction_id=3, amount=6)
    before = other.seen()
    one.act("refund", transaction_id=3, amount=6)
    one.act("refund", transaction_id=3)
    assert one.remaining() == [0, 10, 2, 8]
    assert other.seen() == before
    assert other.remaining() == [0, 10, 2]
    assert one.ledger.broken() == []


@pytest.mark.parametrize("function", ["capture_hold", "release_hold"])
def test_a_hold(twins: tuple[Twin, Twin], function: str) -> None:
    one, other = twins
    for twin in twins:
        lot(twin.ledger, twin.user, 10, DAY)
    hold = same_hold(*twins)
    before = other.seen()
    one.act(function, hold_id=hold)
    assert other.seen() == before
    # And the other way.
    before = one.seen()
    assert other.act("capture_hold", hold_id=hold)["amount"] == -5
    assert one.seen() == before
    assert other.act("capture_hold", hold_id=hold)["amount"] == -5
    assert one.ledger.broken() == []


def test_a_clawback_and_what_it_gives_back(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    for twin in twins:
        for _ in range(2):
            lot(twin.ledger, twin.user, 10, DAY)
    taken = [twin.ledger.claw_back(twin.user, amount, 2)["id"] for twin, amount in ((one, 4), (other, 7))]
    assert taken == [3, 3]
    settled(*twins)
    before = other.seen()
    give = "select to_jsonb(g) from credits.give_back(%s, %s, %s) as g"
    assert one.ledger.value(give, one.account, 3, 3)["balance_after"] == 19
    assert one.remaining() == [10, 9]
    assert other.seen() == before
    assert other.ledger.value(give, other.account, 3, 7)["balance_after"] == 20
    with pytest.raises(Refused, match="1 credits that are left"):
        one.ledger.value(give, one.account, 3, 2)
    with pytest.raises(Refused, match="PT400"):
        one.ledger.value(give, one.account, 2, 1)
    assert one.ledger.broken() == []


def test_a_lot_that_ends_before_its_time(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    for twin in twins:
        for _ in range(2):
            lot(twin.ledger, twin.user, 10, DAY)
    settled(*twins)
    before = other.seen()
    one.ledger.rows("select credits.end_lot(%s, 2)", one.account)
    assert one.remaining() == [10, 0]
    assert other.seen() == before
    assert one.ledger.broken() == []


def test_lots_that_expire(twins: tuple[Twin, Twin]) -> None:
    """The other's, which are due as well, wait for their own settlement."""
    one, other = twins
    for twin in twins:
        lot(twin.ledger, twin.user, 10, MINUTE)
        twin.spend(4)
    one.ledger.pass_time(2 * MINUTE)
    before = other.seen()
    settled(one)
    assert other.seen() == before
    assert (one.remaining(), other.remaining()) == ([0], [0])
    assert one.ledger.broken() == []


def test_a_generation(own_ledger: Ledger) -> None:
    studio, one, other = Studio(own_ledger), Twin(own_ledger), Twin(own_ledger)
    operation, jobs = studio.operation(price=2), []
    for twin in (one, other):
        lot(twin.ledger, twin.user, 20, 30 * DAY)
        jobs.append(studio.dispatched(twin.user, operation, 3))
    other.spend(1)  # with the number that the capture will have
    hold = one.ledger.value("select hold_id from public.generation_jobs where id = %s", jobs[0])
    with one.ledger.connection.transaction():
        one.ledger.rows("alter table public.generation_jobs drop constraint generation_jobs_hold_id_fkey")
        one.ledger.rows("update public.credit_holds set id = %s where account_id = %s", hold, other.account)
        one.ledger.rows(
            "update public.generation_jobs set hold_id = %s where account_id = %s", hold, other.account
        )
        one.ledger.rows(
            "alter table public.generation_jobs add constraint generation_jobs_hold_id_fkey "
            "foreign key (account_id, hold_id) references public.credit_holds (account_id, id)"
        )
    before = other.seen()
    assert studio.finish(jobs[0], "succeeded", 2)["credits_charged"] == 4
    assert other.seen() == before
    before = one.seen()
    assert studio.finish(jobs[1], "failed")["credits_charged"] == 0
    assert one.seen() == before
    mine = one.ledger.as_user(one.user, "my_generation", job_id=jobs[0])
    assert (mine["credits_held"], mine["credits_charged"], mine["available"]) == (6, 4, 16)
    # The other's hold, which charged nothing, goes in time, and takes its own job and no other's.
    one.ledger.pass_time(40 * DAY)
    one.ledger.rows("select credits.sweep_holds(1000)")
    assert one.seen()["public.credit_holds"] == before["public.credit_holds"]
    assert one.seen()["public.generation_jobs"] == before["public.generation_jobs"]
    assert one.seen()["credits.usage_logs"] == before["credits.usage_logs"]
    assert other.seen()["public.credit_holds"] is other.seen()["public.generation_jobs"] is None
    assert [(row["id"], row["hold_id"]) for row in other.seen()["credits.usage_logs"]] == [(1, None)]
    assert one.ledger.broken() == []


def test_another_accounts_ids_are_unknown(twins: tuple[Twin, Twin]) -> None:
    one, other = twins
    for twin in twins:
        lot(twin.ledger, twin.user, 10, DAY)
    spent, hold = [other.spend(1) for _ in range(2)][-1], other.hold(1)
    settled(*twins)
    before = one.seen(), other.seen()
    for function, names in (
        ("refund", {"transaction_id": spent["id"]}),
        ("capture_hold", {"hold_id": hold["id"]}),
        ("release_hold", {"hold_id": hold["id"]}),
    ):
        with pytest.raises(Refused) as caught:
            one.act(function, **names)
        assert caught.value.code == "PT404"
        assert caught.value.details == {"account_id": one.account, **names}
    assert (one.seen(), other.seen()) == before
