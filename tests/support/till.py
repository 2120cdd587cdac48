"""A ledger that Stripe's messages are told to, and what tests of several files tell it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from psycopg import sql

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Message, Plan, event, new_id


@dataclass(frozen=True)
class Till:
    """A ledger that Stripe's messages are told to, as the webhook function does it."""

    ledger: Ledger

    def buyer(self) -> tuple[str, str]:
        """A new user: their id and their account's."""
        user = self.ledger.sign_up()
        return user, str(self.ledger.account(user)["id"])

    def tell(self, messages: Iterable[Message]) -> list[str]:
        """Ingest the messages one by one. Returns what became of each."""
        return [self.ingest(message)["status"] for message in messages]

    def ingest(self, message: Any) -> dict[str, Any]:
        """Ingest one message: {status, reason, refresh, second}."""
        answer: dict[str, Any] = self.ledger.ask(
            "service_role",
            json.dumps({"role": "service_role", "exp": 4102444800 * 2}),
            sql.SQL("select public.ingest_stripe_event({}::jsonb)").format(json.dumps(message)),
        )
        return answer

    def retry(self) -> None:
        """Try what was put aside again, all of it."""
        began = self.ledger.pass_time(timedelta(seconds=1))
        while self.ledger.as_service("retry_stripe_events", before=began.isoformat())["retried"]:
            pass

    def maintain(self) -> None:
        """Run maintenance once, as the scheduler does."""
        self.ledger.rows("select credits.run_maintenance()")

    def pass_time_until(self, at: datetime) -> None:
        """Let time pass until then, and maintenance run."""
        self.ledger.pass_time(at - self.ledger.now())
        self.maintain()

    def balance(self, user: str) -> int:
        """The account's balance."""
        return int(self.ledger.account(user)["balance"])

    def alive(self, user: str) -> dict[Any, int]:
        """What is left, by expiry."""
        self.ledger.settle(user)
        found: dict[Any, int] = {}
        for lot in self.ledger.lots(user):
            if lot["remaining"]:
                found[lot["expires_at"]] = found.get(lot["expires_at"], 0) + lot["remaining"]
        return found

    def purchase(self, **where: str) -> dict[str, Any]:
        """The one purchase with these values."""
        ((column, value),) = where.items()
        rows = self.ledger.rows(f"select * from public.purchases where {column} = %s", value)
        assert len(rows) == 1, rows
        return rows[0]

    def plan(self, allotment: int, unit_amount: int, **columns: Any) -> Plan:
        """A new subscription plan."""
        slug, price = new_id("plan").replace("_test_", ""), new_id("price")
        currency = columns.get("currency", "usd")
        row: dict[str, Any] = {
            "slug": slug,
            "name": slug,
            "credits": allotment,
            "unit_amount": unit_amount,
            "stripe_price_id": price,
        }
        row |= columns
        slug, price = row["slug"], row["stripe_price_id"]
        values = ", ".join(["%s"] * len(row))
        self.ledger.rows(
            f"insert into public.subscription_plans ({', '.join(row)}) values ({values})", *row.values()
        )
        return Plan(slug, price, allotment, unit_amount, currency)

    def subscription(self, subscription_id: str) -> dict[str, Any]:
        """The subscription's row."""
        return self.ledger.rows("select * from public.subscriptions where id = %s", subscription_id)[0]


YEAR = timedelta(days=365)


MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def yearly_plan(till: Till, allotment: int = 1200, **columns: Any) -> Plan:
    """A new plan of a year, whose credits come month by month."""
    return till.plan(allotment, 12000, interval="year", monthly_allotment=True, **columns)


def yearly_contract(till: Till, **columns: Any) -> tuple[str, Contract]:
    """A new user, and a subscription to such a plan that begins now."""
    user, account = till.buyer()
    return user, Contract(account, yearly_plan(till, **columns), till.ledger.now(), month=YEAR)


def month_start(start: datetime, number: int) -> datetime:
    """When the month of that number begins, counted from 0."""
    return start + timedelta(days=sum(MONTHS[:number]))


WARNED = "The issuer of a card that paid for this account warned of fraud."


def fraud_warning(payment: str | None, **changes: Any) -> Message:
    """An early fraud warning about a payment, which is not refunded yet."""
    content = {
        "id": new_id("issfr"), "object": "radar.early_fraud_warning", "charge": new_id("ch"),
        "payment_intent": payment, "fraud_type": "made_with_stolen_card", "actionable": True,
    }  # fmt: skip
    return event("radar.early_fraud_warning.created", content | changes)


def frozen_reason(till: Till, user: str) -> Any:
    """Why the account is frozen, or None."""
    return till.ledger.account(user)["frozen_reason"]


def second_subscription(till: Till, contracts: list[Contract]) -> str:
    """The id of the one that came second."""
    (row,) = till.ledger.rows(
        "select subscription_id, first_id, outcome from credits.second_subscriptions "
        "where subscription_id = any(%s)", [each.id for each in contracts],
    )  # fmt: skip
    assert {row["subscription_id"], row["first_id"]} == {each.id for each in contracts}
    return str(row["subscription_id"])


EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
