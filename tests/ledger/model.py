"""The ledger's rules once more, in the plainest way: an eager model of one account to compare it with.

Where the database is lazy (it allocates, expires and seals in batches), the model does everything at once: a
spend takes its lots when it happens, and what expires is gone when its time comes. Amounts are whole credits,
times are UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

SOURCES = ("purchase", "subscription", "bonus", "referral", "promo", "refund")
PROMOTIONAL = ("bonus", "referral", "promo")
MAX_QUANTITY = 10_000
MAX_GRANT = 1_000_000_000
HOLD_TTL = timedelta(minutes=15)
HOLD_TTL_MAX = timedelta(hours=24)

Result = TypeVar("Result")


class Refused(Exception):  # noqa: N818 (what happened, not a mistake)
    """A refusal: the HTTP status as PTxxx, and the figures that the caller is told."""

    def __init__(self, code: str, **figures: Any) -> None:
        super().__init__(code, figures)
        self.code = code
        self.figures = figures


@dataclass(eq=False)
class Lot:
    """What a grant, or a refund whose lot had expired, brought in, and what is left of it."""

    number: int
    entry: Entry
    amount: int
    source: str
    expires_at: datetime | None
    priority: int
    remaining: int

    def expired(self, now: datetime) -> bool:
        """Whether its time has come. What remains of it then lives under holds only."""
        return self.expires_at is not None and self.expires_at <= now

    def burn_key(self) -> tuple[Any, ...]:
        """Rule 3: priority, then earliest expiry, then promotional before paid, then oldest."""
        return (
            self.priority,
            self.expires_at is None,
            self.expires_at,
            self.source not in PROMOTIONAL,
            self.number,
        )


@dataclass(eq=False)
class Payment:
    """What a lot paid for a debit, or got back by a refund."""

    lot: Lot
    amount: int


@dataclass(eq=False)
class Entry:
    """A ledger row. `paid` has the lots that paid for it in the order in which they were taken,
    `returned` what a
    refund put back into lots; of a debit that was refunded, `refunded` is the sum and `given_back` says
    to which lots, and `forgiven` has those that took its own debt back.
    """

    number: int
    kind: str
    amount: int
    balance_after: int
    operation: str | None = None
    quantity: int | None = None
    unit_price: Decimal | None = None
    related: Entry | None = None
    paid: list[Payment] = field(default_factory=list)
    returned: list[Payment] = field(default_factory=list)
    refunded: int = 0
    given_back: dict[Lot, int] = field(default_factory=dict)
    forgiven: set[Lot] = field(default_factory=set)

    def unpaid(self) -> int:
        """Of a debit: what no lot has paid for yet."""
        return -self.amount - sum(payment.amount for payment in self.paid)

    def allocations(self) -> dict[int, int]:
        """Credits by lot number: taken from it, or negative where a refund put them back."""
        totals: dict[int, int] = {}
        for payments, sign in ((self.paid, 1), (self.returned, -1)):
            for payment in payments:
                totals[payment.lot.number] = totals.get(payment.lot.number, 0) + sign * payment.amount
        return totals


@dataclass(eq=False)
class Hold:
    """Credits set aside for an operation at the price of the moment."""

    operation: str
    quantity: int
    unit_price: Decimal
    amount: int
    created_at: datetime
    expires_at: datetime
    status: str = "held"
    capture: Entry | None = None


def cost(unit_price: Decimal, quantity: int) -> int:
    """Rule 7."""
    return math.ceil(unit_price * quantity)


class Account:
    """One account. Every method is one call of the database's, refused in the same cases."""

    def __init__(self, now: datetime, bonus: int, refund_grace: timedelta) -> None:
        self.now = now
        self.refund_grace = refund_grace
        self.lots: list[Lot] = []
        self.entries: list[Entry] = []
        self.holds: list[Hold] = []
        self.prices: dict[str, list[tuple[datetime, Decimal]]] = {}
        self.frozen = False
        self.keys: dict[str, tuple[tuple[Any, ...], Any]] = {}
        if bonus:
            self._add_grant(bonus, "bonus", None, 50)

    # -- what it is worth ----------------------------------------------------------------------

    @property
    def balance(self) -> int:
        """Rule 1: the sum of the ledger."""
        return self.entries[-1].balance_after if self.entries else 0

    @property
    def held(self) -> int:
        """The sum of the open holds."""
        return sum(hold.amount for hold in self.holds if hold.status == "held")

    @property
    def available(self) -> int:
        """What a spend may take."""
        return self.balance - self.held

    def total(self, *kinds: str) -> int:
        """Credits that rows of these kinds moved, as a positive number."""
        return sum(abs(entry.amount) for entry in self.entries if entry.kind in kinds)

    def expiring(self) -> list[tuple[datetime, int]]:
        """(time, credits) of each lot that will expire, soonest first."""
        return [
            (lot.expires_at, lot.remaining)
            for lot in sorted(self.lots, key=lambda lot: (lot.expires_at or self.now, lot.number))
            if lot.remaining and lot.expires_at is not None and not lot.expired(self.now)
        ]

    def price(self, operation: str, quantity: int) -> Decimal:
        """Credits for one unit now. Refuses an unknown operation and a quantity out of range."""
        if not 1 <= quantity <= MAX_QUANTITY:
            raise Refused("PT400", quantity=quantity, limit=MAX_QUANTITY)
        begun = [price for since, price in self.prices.get(operation, []) if since <= self.now]
        if not begun:
            raise Refused("PT404", operation=operation)
        return begun[-1]

    def set_price(self, operation: str, unit_price: Decimal, since: datetime) -> None:
        """From then on; later rows win."""
        rows = [row for row in self.prices.get(operation, []) if row[0] != since]
        self.prices[operation] = sorted([*rows, (since, unit_price)])

    # -- time ----------------------------------------------------------------------------------

    def advance(self, to: datetime) -> None:
        """Let time pass; whatever ends on the way ends at its moment."""
        while True:
            ends: Iterable[datetime | None] = (
                *(lot.expires_at for lot in self.lots if lot.remaining),
                *(hold.expires_at for hold in self.holds if hold.status == "held"),
            )
            moments = [moment for moment in ends if moment is not None and self.now < moment <= to]
            if not moments:
                break
            self.now = min(moments)
            for hold in self.holds:
                if hold.status == "held" and hold.expires_at <= self.now:
                    hold.status = "expired"
            self._expire()
        self.now = to

    def _lapsed(self) -> list[Lot]:
        """Lots past their time with something left, in the order in which they expired."""
        past = [lot for lot in self.lots if lot.remaining and lot.expired(self.now)]
        return sorted(past, key=lambda lot: (lot.expires_at, lot.number))

    def _expire(self) -> None:
        """Write off what no open hold keeps: a hold rests on the credits that expire first, and on none that
        had expired before it was made.
        """
        kept = 0
        for lot in self._lapsed():
            assert lot.expires_at is not None
            holds = sum(h.amount for h in self.holds if h.status == "held" and h.created_at < lot.expires_at)
            stays = min(lot.remaining, max(0, holds - kept))
            kept += stays
            if lot.remaining > stays:
                entry = self._post("expiry", stays - lot.remaining, related=lot.entry)
                self._take(entry, [lot])

    # -- lots ----------------------------------------------------------------------------------

    def _post(self, kind: str, amount: int, **columns: Any) -> Entry:
        entry = Entry(len(self.entries), kind, amount, self.balance + amount, **columns)
        self.entries.append(entry)
        return entry

    def _take(self, entry: Entry, lots: Iterable[Lot]) -> None:
        """Pay for a debit from the lots, in the order given, as far as they go."""
        for lot in lots:
            part = min(entry.unpaid(), lot.remaining)
            if part:
                lot.remaining -= part
                entry.paid.append(Payment(lot, part))

    def _alive(self) -> list[Lot]:
        return sorted((lot for lot in self.lots if not lot.expired(self.now)), key=Lot.burn_key)

    def _new_lot(
        self, entry: Entry, amount: int, source: str, expires_at: datetime | None, priority: int
    ) -> None:
        self.lots.append(Lot(len(self.lots), entry, amount, source, expires_at, priority, amount))

    def _pay_debts(self) -> None:
        """New credits pay, oldest debit first, what a clawback left unpaid."""
        for entry in self.entries:
            if entry.amount < 0 and entry.unpaid():
                self._take(entry, self._alive())

    def _add_grant(self, amount: int, source: str, expires_at: datetime | None, priority: int) -> Entry:
        entry = self._post("grant", amount)
        self._new_lot(entry, amount, source, expires_at, priority)
        self._pay_debts()
        return entry

    # -- calls ---------------------------------------------------------------------------------

    def _once(self, key: str | None, request: tuple[Any, ...], act: Callable[[], Result]) -> Result:
        """Rule 6. A refusal takes the key back, because nothing was done."""
        if key is not None and key in self.keys:
            first_request, first_answer = self.keys[key]
            if first_request != request:
                raise Refused("PT409", idempotency_key=key)
            return first_answer  # type: ignore[no-any-return]
        answer = act()
        if key is not None:
            self.keys[key] = request, answer
        return answer

    def _require(self, needed: int) -> None:
        if self.frozen:
            raise Refused("PT403")
        if self.available < needed:
            raise Refused(
                "PT402", required=needed, available=self.available, shortfall=needed - self.available
            )

    def grant(
        self, amount: int, source: str, expires_at: datetime | None, priority: int | None, key: str | None
    ) -> Entry:
        """grant_credits."""

        def act() -> Entry:
            if not 1 <= amount <= MAX_GRANT:
                raise Refused("PT400", amount=amount, limit=MAX_GRANT)
            if source not in SOURCES:
                raise Refused("PT400", source=source)
            if expires_at is not None and expires_at <= self.now:
                raise Refused("PT400")
            if priority is not None and not 0 <= priority <= 100:
                raise Refused("PT400", priority=priority)
            return self._add_grant(amount, source, expires_at, 50 if priority is None else priority)

        return self._once(key, ("grant", amount, source, expires_at, priority), act)

    def spend(self, operation: str, quantity: int, key: str | None) -> Entry:
        """consume_credits."""

        def act() -> Entry:
            unit_price = self.price(operation, quantity)
            self._require(cost(unit_price, quantity))
            entry = self._post(
                "spend",
                -cost(unit_price, quantity),
                operation=operation,
                quantity=quantity,
                unit_price=unit_price,
            )
            self._take(entry, self._alive())
            return entry

        return self._once(key, ("spend", operation, quantity), act)

    def hold(self, operation: str, quantity: int, ttl: timedelta | None, key: str | None) -> Hold:
        """hold_credits."""
        if ttl is not None and not timedelta(0) < ttl <= HOLD_TTL_MAX:
            raise Refused("PT400")

        def act() -> Hold:
            unit_price = self.price(operation, quantity)
            amount = cost(unit_price, quantity)
            self._require(amount)
            hold = Hold(operation, quantity, unit_price, amount, self.now, self.now + (ttl or HOLD_TTL))
            self.holds.append(hold)
            return hold

        return self._once(key, ("hold", operation, quantity, ttl), act)

    def capture(self, hold: Hold, quantity: int | None) -> Entry:
        """capture_hold."""
        used = hold.quantity if quantity is None else quantity
        if hold.capture is not None:
            if hold.capture.quantity == used:
                return hold.capture
            raise Refused("PT409", captured=hold.capture.quantity, quantity=used)
        if hold.status != "held":
            raise Refused("PT409", status=hold.status)
        if not 1 <= used <= hold.quantity:
            raise Refused("PT400", quantity=used, held=hold.quantity)
        entry = self._post(
            "capture",
            -cost(hold.unit_price, used),
            operation=hold.operation,
            quantity=used,
            unit_price=hold.unit_price,
        )
        hold.status, hold.capture = "captured", entry
        # What the hold kept beyond its time goes first, then what is alive.
        kept = [
            lot for lot in self._lapsed() if lot.expires_at is not None and lot.expires_at > hold.created_at
        ]
        self._take(entry, [*kept, *self._alive()])
        self._expire()
        return entry

    def release(self, hold: Hold) -> Hold:
        """release_hold."""
        if hold.status == "captured":
            raise Refused("PT409")
        if hold.status == "held":
            hold.status = "released"
            self._expire()
        return hold

    def refund(self, spent: Entry, amount: int | None, key: str | None) -> Entry:
        """Refund (the RPC of that name)."""
        if spent.kind not in ("spend", "capture"):
            raise Refused("PT409", kind=spent.kind)

        def act() -> Entry:
            refundable = -spent.amount - spent.refunded
            if refundable == 0:
                raise Refused("PT409", spent=-spent.amount, refundable=0)
            if amount is not None and not 1 <= amount <= refundable:
                raise Refused("PT400", amount=amount, spent=-spent.amount, refundable=refundable)
            return self._give_back(spent, refundable if amount is None else amount)

        return self._once(key, ("refund", spent.number, amount), act)

    def _give_back(self, spent: Entry, amount: int) -> Entry:
        entry = self._post("refund", amount, operation=spent.operation, related=spent)
        spent.refunded += amount
        grace = self.now + self.refund_grace
        # What no lot has paid for, its own debt, is taken back before the others: by a lot that is spent on it.
        part = min(amount, spent.unpaid())
        if part:
            self._new_lot(entry, part, "refund", grace, 50)
            self._take(spent, [self.lots[-1]])
            spent.forgiven.add(self.lots[-1])
            amount -= part
        # What was paid last is given back first, as if less had been spent; and pays other debts at once.
        for lot in dict.fromkeys(payment.lot for payment in reversed(spent.paid)):
            if lot in spent.forgiven:
                continue
            part = min(
                amount, sum(p.amount for p in spent.paid if p.lot is lot) - spent.given_back.get(lot, 0)
            )
            if part:
                spent.given_back[lot] = spent.given_back.get(lot, 0) + part
                amount -= part
                if lot.expired(self.now):
                    self._new_lot(entry, part, "refund", grace, lot.priority)
                else:
                    lot.remaining += part
                    entry.returned.append(Payment(lot, part))
                self._pay_debts()
        assert amount == 0
        return entry

    def claw_back(self, amount: int, grant: Entry | None, key: str | None) -> Entry:
        """The internal credits.claw_back."""
        if not 1 <= amount <= MAX_GRANT:
            raise Refused("PT400", amount=amount, limit=MAX_GRANT)

        def act() -> Entry:
            if grant is not None and grant.kind != "grant":
                raise Refused("PT404")
            entry = self._post("clawback", -amount, related=grant)
            named = [lot for lot in self.lots if lot.entry is grant]
            self._take(entry, [*named, *self._lapsed(), *self._alive()])
            return entry

        return self._once(key, ("claw_back", amount, None if grant is None else grant.number), act)
