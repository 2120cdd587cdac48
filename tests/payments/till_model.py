"""What Stripe's messages mean for credits once more, in the plainest way: lots, debts, and what took of them.

One account with one subscription at a time, its messages in order and in time. Everything happens at once. A
debt, which is what a downgrade leaves too much, is paid from unspent credits of subscriptions only; what it
took of lots that are still alive is given back before a refund takes its share, and taken anew after it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction


def rounded(value: Fraction) -> int:
    """To the nearest, halves away from zero, as Postgres rounds."""
    whole = int(abs(value) + Fraction(1, 2))
    return whole if value >= 0 else -whole


@dataclass(eq=False)
class Lot:
    """What one grant brought. `period` counts the subscription's months; None for a purchase."""

    amount: int
    period: int | None
    remaining: int
    expired: int = 0
    dead: bool = False


@dataclass(eq=False)
class Purchase:
    """A payment and its lot; `share` of the money has gone back."""

    lot: Lot
    share: Fraction = Fraction(0)
    clawed: int = 0


@dataclass(eq=False)
class Debt:
    """What a downgrade in a period takes back."""

    amount: int
    period: int
    taken: dict[Lot, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Taken so far."""
        return sum(self.taken.values())


class Account:
    """Credits of one account."""

    def __init__(self) -> None:
        self.purchases: list[Purchase] = []
        self.debts: list[Debt] = []
        self.below_zero = 0
        self.period = 0

    @property
    def lots(self) -> list[Lot]:
        """All lots, the oldest first."""
        return [purchase.lot for purchase in self.purchases]

    @property
    def alive(self) -> list[Lot]:
        """In burn order: a plan's credits go before those of purchases, the older first."""
        return sorted(
            (lot for lot in self.lots if not lot.dead),
            key=lambda lot: (lot.period is None, lot.period or 0, self.lots.index(lot)),
        )

    @property
    def balance(self) -> int:
        """What the account has, below zero for what is to be paid off first."""
        return sum(lot.remaining for lot in self.lots) - self.below_zero

    def owed(self) -> int:
        """What all debts still want."""
        return sum(wanted for _, wanted in self._wanted())

    # -- steps ---------------------------------------------------------------------------------

    def grant(self, amount: int, period: int | None) -> Purchase:
        """A payment's credits; they pay off what is below zero."""
        lot = Lot(amount, period, amount)
        paid = min(amount, self.below_zero)
        lot.remaining -= paid
        self.below_zero -= paid
        purchase = Purchase(lot)
        self.purchases.append(purchase)
        self._collect()
        return purchase

    def next_period(self) -> None:
        """The period's credits expire."""
        for lot in self.lots:
            if lot.period == self.period:
                lot.expired, lot.remaining, lot.dead = lot.remaining, 0, True
        self.period += 1

    def spend(self, amount: int) -> bool:
        """Whether there were so many."""
        if amount > self.balance:
            return False
        for lot in self.alive:
            part = min(amount, lot.remaining)
            lot.remaining -= part
            amount -= part
        return True

    def downgrade(self, amount: int) -> None:
        """So many too many were granted in this period."""
        self.debts.append(Debt(amount, self.period))
        self._collect()

    def refund(self, purchase: Purchase, share: Fraction) -> None:
        """So much of the money, in all, went back."""
        purchase.share = max(purchase.share, share)
        lot = purchase.lot
        final = sum(debt.taken.get(lot, 0) for debt in self.debts) if lot.dead else 0
        target = max(
            purchase.clawed, min(rounded(lot.amount * purchase.share), lot.amount - lot.expired - final)
        )
        wanted = target - purchase.clawed
        if wanted > 0:
            for debt in self.debts:
                for taken_from in [taken_from for taken_from in debt.taken if not taken_from.dead]:
                    taken_from.remaining += debt.taken.pop(taken_from)
            purchase.clawed = target
            for each in [*([lot] if not lot.dead else []), *self.alive]:
                part = min(wanted, each.remaining)
                each.remaining -= part
                wanted -= part
            self.below_zero += wanted
        self._collect()

    # -- debts ---------------------------------------------------------------------------------

    def _wanted(self) -> list[tuple[Debt, int]]:
        """Each debt with what it still wants: no more than its period brought and nothing else took."""
        found = []
        for period in sorted({debt.period for debt in self.debts}):
            own = [purchase for purchase in self.purchases if purchase.lot.period == period]
            brought = sum(purchase.lot.amount - purchase.clawed for purchase in own)
            expired = sum(purchase.lot.expired for purchase in own)
            for debt in self.debts:
                if debt.period == period:
                    claim = min(debt.amount, brought)
                    brought -= claim
                    # What expired unused was there to pay for it.
                    final = sum(part for lot, part in debt.taken.items() if lot.dead)
                    unused = min(expired, max(0, claim - final))
                    expired -= unused
                    found.append((debt, max(0, claim - unused - debt.total)))
        return found

    def _collect(self) -> None:
        for debt, wanted in self._wanted():
            for lot in self.alive:
                if lot.period is not None and lot.period >= debt.period:
                    part = min(wanted, lot.remaining)
                    wanted -= part
                    lot.remaining -= part
                    if part:
                        debt.taken[lot] = debt.taken.get(lot, 0) + part
