"""The ledger against its model: random histories, compared after every step.

The default profile runs the same few thousand steps every time. To hunt for more,
`LEDGER_EXAMPLES=500 ./scripts/test tests/ledger/test_model.py` runs that many histories, others each time.
"""

import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.ledger import model
from tests.support.ledger import Ledger, Refused, small_batches

TICK = timedelta(minutes=1)
GRACE = 6 * TICK
BONUS = 10
HUNT = int(os.environ.get("LEDGER_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=HUNT or 60,
    stateful_step_count=80 if HUNT else 50,
    derandomize=not HUNT,
    database=None,
    deadline=None,
    print_blob=False,
    # Shrinking takes minutes, more than the suite has.
    phases=[Phase.generate, Phase.shrink] if HUNT else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)

OPERATIONS = {"fraction": Decimal("0.3"), "half": Decimal("2.5"), "whole": Decimal(4)}
Row = TypeVar("Row")

Outcome = tuple[str, Any]


def one_of_steps() -> st.SearchStrategy[tuple[Any, ...]]:
    """A method of LedgerMachine with its arguments: small numbers and coarse times, so that they meet."""
    operation = st.sampled_from(sorted(OPERATIONS))
    quantity = st.integers(1, 6)
    key = st.sampled_from([None] * 9 + ["a", "b", "c"])
    which = st.integers(0, 63)
    ticks = st.integers(1, 8).map(lambda n: n * TICK)

    def steps(
        weight: int, name: str, *arguments: st.SearchStrategy[Any]
    ) -> list[st.SearchStrategy[tuple[Any, ...]]]:
        return [st.tuples(st.just(name), *arguments) for _ in range(weight)]

    return st.one_of(
        *steps(
            2, "grant", st.integers(1, 30), st.sampled_from(model.SOURCES), st.one_of(st.none(), ticks),
            st.sampled_from([None, None, 0, 50, 90]), key,
        ),
        *steps(4, "spend", operation, quantity, key),
        *steps(5, "hold", operation, quantity, st.one_of(st.none(), ticks), key),
        *steps(3, "capture", which, st.sampled_from([None, None, None, 0, 1, 1, 2, 3, 5, 7])),
        *steps(2, "release", which),
        *steps(3, "refund", which, st.one_of(st.none(), st.integers(1, 10)), key),
        *steps(2, "claw_back", st.integers(1, 40), st.one_of(st.none(), which), key),
        *steps(4, "pass_time", ticks),
        *steps(1, "administer", operation, st.sampled_from(["0.25", "1", "1.5", "3", "4"]), st.integers(0, 4),
               st.sampled_from([False, False, True])),
        *steps(2, "keep_house", st.sampled_from(
            ["settle", "settle", "settle all", "settle old", "settle part", "verify"]
        )),
    )  # fmt: skip


class LedgerMachine(RuleBasedStateMachine):
    """One account, lived through twice: in the database and in the model."""

    def __init__(self, ledger: Ledger, steps: Counter[str]) -> None:
        super().__init__()
        self.ledger = ledger
        self.steps = steps

    @initialize(batch=st.sampled_from([1, 2, 3, 1000]))
    def sign_up(self, batch: int) -> None:
        """Fresh user, first prices. So many rows are settled at a time, and two more make a spend settle."""
        small_batches(self.ledger, batch, batch + 2)
        self.steps[f"batches of {batch}"] += 1
        self.now = self.ledger.now()
        self.ledger.rows("delete from public.pricing_tiers")
        self.model = model.Account(self.now, BONUS, GRACE)
        for operation, price in OPERATIONS.items():
            self._price(operation, price, timedelta(0))
        self.user = self.ledger.sign_up()
        self.account_id = self.ledger.account(self.user)["id"]
        # Ids of the database for the model's rows, and the other way round for lots.
        self.ids: dict[model.Entry | model.Hold, Any] = {
            self.model.entries[0]: self.ledger.lots(self.user)[0]["transaction_id"]
        }

    def _price(self, operation: str, price: Decimal, later: timedelta) -> None:
        since = self.now + later
        self.model.set_price(operation, price, since)
        self.ledger.rows(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit, effective_from) "
            "values (%s, 'test', 'test', %s, %s) on conflict (operation, effective_from) "
            "do update set credits_per_unit = excluded.credits_per_unit",
            operation, price, since,
        )  # fmt: skip

    def _both(self, name: str, in_model: Callable[[], Any], in_database: Callable[[], Any]) -> None:
        """Do it in both; the same must come of it."""
        answer = row = None
        expected: Outcome = "", {}
        got: Outcome = "", {}
        try:
            answer = in_model()
        except model.Refused as refusal:
            expected = refusal.code, refusal.figures
        try:
            row = in_database()
        except Refused as refusal:
            got = refusal.code, refusal.details
        if isinstance(answer, model.Entry):
            expected = (
                "entry",
                {
                    "id": self.ids.setdefault(answer, row and row["id"]),
                    "kind": answer.kind,
                    "amount": answer.amount,
                    "operation": answer.operation,
                    "quantity": answer.quantity,
                    "unit_price": None if answer.unit_price is None else float(answer.unit_price),
                    "related_id": self.ids[answer.related] if answer.related else None,
                    "balance_after": answer.balance_after,
                },
            )
        elif isinstance(answer, model.Hold):
            expected = (
                "hold",
                {
                    "id": self.ids.setdefault(answer, row and row["id"]),
                    "operation": answer.operation,
                    "quantity": answer.quantity,
                    "unit_price": float(answer.unit_price),
                    "amount": answer.amount,
                    "status": answer.status,
                },
            )
        if row is not None:
            got = expected[0] or "a row", {column: row[column] for column in expected[1] if column in row}
        elif answer is None:
            # The model need not know every figure, but those that it gives must be right.
            got = got[0], {figure: got[1].get(figure) for figure in expected[1]}
        self.steps[f"{name}: {got[0]}"] += 1
        assert got == expected, f"{name}: the database says {got}, the model {expected}"

    @rule(step=one_of_steps())
    def step(self, step: tuple[Any, ...]) -> None:
        """One rule for all, because hypothesis leaves many histories without some of the rules."""
        name, *arguments = step
        getattr(self, name)(*arguments)

    # -- what users and operators do -----------------------------------------------------------

    def grant(
        self, amount: int, source: str, life: timedelta | None, priority: int | None, key: str | None
    ) -> None:
        expires_at = None if life is None else self.now + life
        self._both(
            "grant",
            lambda: self.model.grant(amount, source, expires_at, priority, key),
            lambda: self.ledger.as_service(
                "grant_credits", user_id=self.user, amount=amount, source=source, expires_at=expires_at,
                priority=priority, idempotency_key=key,
            ),
        )  # fmt: skip

    def spend(self, operation: str, quantity: int, key: str | None) -> None:
        self._both(
            "spend",
            lambda: self.model.spend(operation, quantity, key),
            lambda: self.ledger.as_user(
                self.user, "consume_credits", operation=operation, quantity=quantity, idempotency_key=key
            ),
        )

    def hold(self, operation: str, quantity: int, ttl: timedelta | None, key: str | None) -> None:
        self._both(
            "hold",
            lambda: self.model.hold(operation, quantity, ttl, key),
            lambda: self.ledger.as_user(
                self.user,
                "hold_credits",
                operation=operation,
                quantity=quantity,
                ttl=ttl,
                idempotency_key=key,
            ),
        )

    def capture(self, which: int, quantity: int | None) -> None:
        if not self.model.holds:
            return
        hold = self._pick(which, self.model.holds, lambda hold: hold.status == "held")
        self._both(
            "capture",
            lambda: self.model.capture(hold, quantity),
            lambda: self.ledger.as_service(
                "capture_hold", account_id=self.account_id, hold_id=self.ids[hold], quantity=quantity
            ),
        )

    def release(self, which: int) -> None:
        if not self.model.holds:
            return
        hold = self._pick(which, self.model.holds, lambda hold: hold.status == "held")
        self._both(
            "release",
            lambda: self.model.release(hold),
            lambda: self.ledger.as_service(
                "release_hold", account_id=self.account_id, hold_id=self.ids[hold], reason="not used"
            ),
        )

    def refund(self, which: int, amount: int | None, key: str | None) -> None:
        spent = self._pick(
            which, self._known_entries(), lambda e: e.kind in ("spend", "capture") and e.refunded < -e.amount
        )
        self._both(
            "refund",
            lambda: self.model.refund(spent, amount, key),
            lambda: self.ledger.as_service(
                "refund",
                account_id=self.account_id,
                transaction_id=self.ids[spent],
                amount=amount,
                idempotency_key=key,
            ),
        )

    def claw_back(self, amount: int, which: int | None, key: str | None) -> None:
        grant = (
            None if which is None else self._pick(which, self._known_entries(), lambda e: e.kind == "grant")
        )
        self._both(
            "claw_back",
            lambda: self.model.claw_back(amount, grant, key),
            lambda: self.ledger.claw_back(self.user, amount, None if grant is None else self.ids[grant], key),
        )

    def _known_entries(self) -> list[model.Entry]:
        """All but expiries, of which the database may write fewer rows."""
        return [entry for entry in self.model.entries if entry in self.ids]

    @staticmethod
    def _pick(which: int, rows: list[Row], likely: Callable[[Row], bool]) -> Row:
        """One of the likely rows as a rule, newest first; sometimes any, so that refusals are tried
        as well.
        """
        wanted = [row for row in reversed(rows) if likely(row)]
        return wanted[which % len(wanted)] if wanted and which % 8 else rows[which // 8 % len(rows)]

    def administer(self, operation: str, price: str, later: int, freezes: bool) -> None:
        """Change a price, now or soon; or freeze the account until time passes."""
        if freezes and not self.model.frozen:
            self._freeze(True)
        else:
            self.steps["change_price"] += 1
            self._price(operation, Decimal(price), later * TICK)

    def _freeze(self, frozen: bool) -> None:
        self.steps["freeze" if frozen else "unfreeze"] += 1
        self.model.frozen = frozen
        if frozen:
            self.ledger.as_service("freeze_account", user_id=self.user, reason="a test")
        else:
            self.ledger.as_service("unfreeze_account", user_id=self.user)

    # -- time, and what the ledger does by itself ----------------------------------------------

    def pass_time(self, by: timedelta) -> None:
        self.steps["pass_time"] += 1
        if self.model.frozen:
            self._freeze(False)
        self.now = self.ledger.pass_time(by)
        self.model.advance(self.now)

    def keep_house(self, what: str) -> None:
        self.steps[what] += 1
        if what == "settle":
            self.ledger.settle(self.user)
        elif what == "settle part":
            self.ledger.rows(
                "select credits.settle_account(a.id, batches => 1) from public.credit_accounts as a "
                "where a.id = %s for no key update",
                self.account_id,
            )
        elif what == "verify":
            assert self.ledger.broken(self.user) == []
        else:
            settle_after = 2 * TICK if what == "settle old" else timedelta(0)
            while self.ledger.value("select credits.run_maintenance(%s)", settle_after)["more"]:
                pass

    # -- after each step -----------------------------------------------------------------------

    @invariant()
    def the_user_reads_the_same(self) -> None:
        """Settled or not: balance, held, available, totals, what expires next, and whether a call is
        affordable.
        """
        totals = {
            "granted": self.model.total("grant"),
            "spent": self.model.total("spend", "capture"),
            "refunded": self.model.total("refund"),
            "expired": self.model.total("expiry"),
            "clawed_back": self.model.total("clawback"),
        }
        worth = {"balance": self.model.balance, "held": self.model.held, "available": self.model.available}
        seen = self.ledger.read_as_user(self.user, (
            "select jsonb_build_object('mine', public.my_credits(), "
            "'row', (select to_jsonb(c) from public.user_credits as c), "
            "'quote', public.quote_credits('whole'))"
        ))  # fmt: skip
        lots = Counter((lot["expires_at"], lot["credits"]) for lot in seen["mine"].pop("expiring_next"))
        assert seen["mine"] == {**worth, "frozen": self.model.frozen, "totals": totals}
        assert lots == Counter((at.isoformat(), left) for at, left in self.model.expiring())

        row = seen["row"]
        assert {name: row[name] for name in worth} == worth
        assert {name: row[f"lifetime_{name}"] for name in totals} == totals

        price = model.cost(self.model.price("whole", 1), 1)
        seen["quote"].pop("price_version")
        assert seen["quote"] == {
            "operation": "whole",
            "quantity": 1,
            "credits": price,
            "available": self.model.available,
            "affordable": self.model.available >= price and not self.model.frozen,
        }

    @invariant()
    def settled_now_it_would_be_the_same(self) -> None:
        """Lots, allocations, holds and expiries are the model's, whenever the account is settled."""
        settled = self.ledger.what_if_settled(self.account_id)
        assert [tuple(lot[1:]) for lot in settled["lots"]] == [
            (
                lot.amount, lot.remaining, lot.source, lot.expires_at and lot.expires_at.isoformat(),
                lot.priority, self.ids[lot.entry],
            )
            for lot in self.model.lots
        ]  # fmt: skip
        # The database writes one row for what expires between two settlements, the model one for
        # each moment: 0.
        number = {lot[0]: index for index, lot in enumerate(settled["lots"])}
        allocated: Counter[tuple[int, int]] = Counter()
        for transaction, lot, amount in settled["allocations"]:
            allocated[transaction, number[lot]] += amount
        wanted: Counter[tuple[int, int]] = Counter()
        for entry in self.model.entries:
            for index, amount in entry.allocations().items():
                wanted[0 if entry.kind == "expiry" else self.ids[entry], index] += amount
        assert allocated == wanted
        assert dict(settled["holds"]) == {self.ids[hold]: hold.status for hold in self.model.holds}
        assert settled["account"] == [self.model.balance, self.model.held]

    def teardown(self) -> None:
        if hasattr(self, "user"):
            self.ledger.settle(self.user)
            assert self.ledger.broken(self.user) == []


def test_the_ledger_does_what_the_model_does(own_ledger: Ledger) -> None:
    own_ledger.rows("update credits.billing_settings set refund_grace = %s, signup_bonus = %s", GRACE, BONUS)
    steps: Counter[str] = Counter()

    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(own_ledger, steps)

    run_state_machine_as_test(Machine, settings=PROFILE)
    print(f"{steps.total()} steps: {dict(steps.most_common())}")
    # What hypothesis never reaches is not tested.
    done = ("grant: entry", "spend: entry", "hold: hold", "capture: entry", "release: hold", "refund: entry")
    refused = ("spend: PT402", "hold: PT402", "spend: PT409", "refund: PT409", "capture: PT409")
    for step in (
        *done,
        *refused,
        "claw_back: entry",
        "pass_time",
        "settle",
        "settle part",
        "verify",
        "change_price",
    ):
        assert steps[step] > 20, step
    assert steps.total() > 2000
