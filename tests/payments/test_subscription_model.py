"""A subscription's life against its model: random purchases, spends, changes of plan and refunds.

The default profile runs the same histories every time. To hunt for more,
`SUBSCRIPTION_EXAMPLES=2000 ./scripts/test tests/payments/test_subscription_model.py` runs that many, others
each time.
"""

import os
from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.payments.till_model import Account, Purchase
from tests.support.messages import Contract, Plan, Sale
from tests.support.till import Till

HUNT = int(os.environ.get("SUBSCRIPTION_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=HUNT or 30,
    derandomize=not HUNT,
    database=None,
    deadline=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink] if HUNT else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)

Step = tuple[Any, ...]
QUARTER = Fraction(1, 4)


def steps() -> st.SearchStrategy[Step]:
    """What may happen next. Changes of plan at quarters of the period, so that shares are whole."""

    def weighted(weight: int, *step: Any) -> list[st.SearchStrategy[Step]]:
        return [
            st.tuples(*(part if isinstance(part, st.SearchStrategy) else st.just(part) for part in step))
        ] * weight

    return st.one_of(
        *weighted(1, "buy", st.sampled_from([100, 700])),
        *weighted(4, "spend", st.sampled_from([QUARTER, Fraction(1), Fraction(1)])),
        *weighted(4, "change", st.integers(0, 3)),
        *weighted(3, "renew"),
        *weighted(2, "refund", st.integers(0, 9), st.sampled_from([QUARTER, 2 * QUARTER, Fraction(1)])),
    )


class Life:
    """One account, lived through twice: in the database and in the model."""

    def __init__(self, till: Till, small: Plan, big: Plan, done: Counter[str]) -> None:
        self.till = till
        self.plans = {small.slug: big, big.slug: small}
        self.done = done
        self.user, self.account = till.buyer()
        self.model = Account()
        self.paid: list[tuple[Sale, Purchase]] = []
        self.contract = Contract(self.account, small, till.ledger.now())
        self.quarter = 0
        self._invoice(self.contract.begin(), small.credits)

    def _tell(self, messages: list[Any]) -> None:
        assert set(self.till.tell(messages)) == {"applied"}

    def _invoice(self, messages: list[Any], amount: int) -> None:
        self._tell(messages)
        if amount < 0:
            self.model.downgrade(-amount)
            return
        bill = next(message["data"]["object"] for message in messages if message["type"] == "invoice.paid")
        link = next(m["data"]["object"] for m in messages if m["type"] == "invoice_payment.paid")
        sale = Sale(self.account, amount=bill["amount_paid"], payment=link["payment"]["payment_intent"])
        self.paid.append((sale, self.model.grant(amount, self.model.period)))

    def buy(self, amount: int) -> None:
        sale = Sale(self.account, credits=amount, amount=amount * 8)
        self._tell(sale.completed())
        self.paid.append((sale, self.model.grant(amount, None)))

    def spend(self, share: Fraction) -> None:
        amount = int(self.model.balance * share)
        if amount > 0:
            assert self.model.spend(amount)
            self.till.ledger.as_user(self.user, "consume_credits", operation="one", quantity=amount)

    def change(self, quarter: int) -> None:
        self.quarter = max(self.quarter, quarter)
        old, new = self.contract.plan, self.plans[self.contract.plan.slug]
        at = self.contract.start + self.contract.month * self.quarter / 4
        share = 1 - self.quarter * QUARTER
        self.done["down" if new.credits < old.credits else "up"] += 1
        self._invoice(self.contract.change(new, at), int((new.credits - old.credits) * share))

    def renew(self) -> None:
        self.till.ledger.pass_time(self.contract.month)
        self.model.next_period()
        self.quarter = 0
        self._invoice(self.contract.renew(), self.contract.plan.credits)

    def refund(self, which: int, share: Fraction) -> None:
        sale, purchase = self.paid[-1 - which % len(self.paid)]
        amount = int(sale.amount * share) - sale.refunded
        if amount > 0:
            self._tell(sale.refund(amount))
            self.model.refund(purchase, share)

    def check(self) -> None:
        """The same balance, the same owed, the same taken back of each purchase."""
        rows = self.till.ledger.rows(
            "select p.credits_clawed_back from public.purchases as p "
            "where p.account_id = %s and p.credits_granted > 0 order by p.id",
            self.account,
        )
        owed = self.till.ledger.value(
            "select coalesce(sum(owed), 0) from credits.subscription_debts where account_id = %s",
            self.account,
        )
        self.till.ledger.settle(self.user)
        assert (self.till.balance(self.user), int(owed), [row["credits_clawed_back"] for row in rows]) == (
            self.model.balance,
            self.model.owed(),
            [purchase.clawed for purchase in self.model.purchases],
        )
        self.done["owed"] += owed > 0
        self.done["below zero"] += self.model.balance < 0


def test_a_subscription_does_what_the_model_does(till: Till) -> None:
    small, big = till.plan(500, 1000), till.plan(2000, 3000)
    done: Counter[str] = Counter()

    @PROFILE
    @given(story=st.lists(steps(), min_size=8, max_size=24))
    def live(story: list[Step]) -> None:
        life = Life(till, small, big, done)
        for name, *arguments in story:
            getattr(life, name)(*arguments)
            done[name] += 1
            life.check()
        assert till.ledger.broken(life.user) == []

    live()
    print(dict(done))
    # What is never reached is not tested.
    for what in ("buy", "spend", "renew", "refund", "up", "down", "owed", "below zero"):
        assert done[what] > 10, what
