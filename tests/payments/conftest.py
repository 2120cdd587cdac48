"""The ledger's scratch databases, with what Stripe's messages need."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from psycopg import sql

from tests.support.ledger import Ledger
from tests.support.messages import Message, Plan, new_id


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


@pytest.fixture(scope="session")
def till(ledger: Ledger) -> Till:
    """A ledger to tell messages to."""
    return Till(ledger)
