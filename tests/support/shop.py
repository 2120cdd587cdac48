"""A shop that is open: a stack whose clock is Stripe's, with buyers and an operator."""

import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import stripe

from scripts.local.stack import Stack
from scripts.local.stripe.control import Control
from supabase import Client
from tests.support import clock
from tests.support.stack import Env

HTTP = httpx.Client(timeout=120, trust_env=False)


PAGES = {"success_url": "http://localhost:3000/thanks", "cancel_url": "http://localhost:3000/"}


BONUS = 10  # of a sign-up


Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """A row of subscription_plans: its slug, and the Stripe Price that sells it."""

    slug: str
    price: str


@dataclass(frozen=True)
class Buyer:
    """A signed-in user, who does what an app lets users do."""

    env: Env
    client: Client
    id: str

    def checkout(self, **order: Any) -> str:
        """Go to the checkout: package="starter" or plan="…". Returns the session's id."""
        answer = self.call("checkout", **order, **PAGES)
        assert answer["url"].startswith(self.env.stripe_api_base)
        return str(answer["id"])

    def call(self, function: str, **body: Any) -> Row:
        """A function's answer, with the user's token."""
        answer = self.client.functions.invoke(function, {"body": body})
        made: Row = json.loads(answer) if isinstance(answer, bytes) else answer
        return made

    def rpc(self, name: str, **arguments: Any) -> Any:
        """An RPC's answer, with the user's token."""
        return self.client.rpc(name, arguments).execute().data

    def spend(self, memes: int) -> None:
        """Spend five credits for each meme."""
        self.rpc("consume_credits", operation="meme_generation", quantity=memes)

    def balance(self) -> int:
        """What the user sees."""
        return int(self.rpc("my_credits")["balance"])

    def rows(self, table: str, columns: str = "*", order: str = "id") -> list[Row]:
        """What the user sees of a table, in the order of a column."""
        rows: list[Row] = self.client.table(table).select(columns).order(order).execute().data  # type: ignore[assignment]
        return rows

    def entries(self) -> list[tuple[str, int]]:
        """The user's ledger: kind and amount of each row."""
        return [(row["kind"], row["amount"]) for row in self.rows("credit_transactions", "kind,amount,id")]


@dataclass(frozen=True)
class Shop:
    """The stack, the local Stripe in it, and what its operators do."""

    stack: Stack
    env: Env
    control: Control
    stripe: stripe.StripeClient

    def buyer(self) -> Buyer:
        """A new user."""
        client = self.env.client()
        email = f"buyer-{uuid.uuid4().hex}@example.com"
        answer = client.auth.sign_up({"email": email, "password": "correct horse"})
        assert answer.user and answer.session
        return Buyer(self.env, client, answer.user.id)

    def pay(self, session: str) -> str:
        """The buyer pays on Stripe's page. Returns the payment intent's id."""
        return str(self.control.complete(session)["payment_intent"])

    def buy(self, buyer: Buyer, package: str = "starter") -> str:
        """Buy a package, and wait until Stripe has told. Returns the payment intent's id."""
        payment = self.pay(buyer.checkout(package=package))
        self.control.settled()
        return payment

    def refund(self, payment: str, amount: int | None = None) -> str:
        """The operator refunds minor units, or all that is left, in Stripe. Returns the refund's id."""
        params: Any = {"payment_intent": payment} | ({} if amount is None else {"amount": amount})
        return self.stripe.v1.refunds.create(params).id

    def plan(self, allotment: int, unit_amount: int, **columns: Any) -> Plan:
        """A new monthly plan, on sale."""
        product = self.stripe.v1.products.create({"name": f"{allotment} a month"})
        price = self.stripe.v1.prices.create(
            {"product": product.id, "currency": "usd", "unit_amount": unit_amount,
             "recurring": {"interval": "month"}}
        )  # fmt: skip
        slug = f"plan-{uuid.uuid4().hex[:8]}"
        row = {
            "slug": slug, "name": slug, "credits": allotment, "unit_amount": unit_amount,
            "stripe_price_id": price.id, **columns,
        }  # fmt: skip
        self.sql(
            f"insert into public.subscription_plans ({', '.join(row)}) "
            f"values ({', '.join(['%s'] * len(row))})", *row.values(),
        )  # fmt: skip
        return Plan(slug, price.id)

    def advance(self, **by: int) -> None:
        """Time passes (days=, hours=, seconds=), for Stripe and for the ledger. What it brings is told."""
        with psycopg.connect(self.env.db_url, autocommit=True) as connection:
            clock.pass_time(connection, timedelta(**by))
        self.control.advance(**by)
        self.control.settled()

    def reconcile(self, **body: Any) -> Row:
        """Run stripe-reconcile with the secret key. Returns its last line: the report, or an error."""
        answer = HTTP.post(
            f"{self.env.functions_url}/stripe-reconcile", json=body, headers={"apikey": self.env.secret_key}
        )
        assert answer.status_code == 200, answer.text
        last: Row = json.loads(answer.text.splitlines()[-1])
        report: Row = last.get("report", last)
        return report

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives the owner of the database."""
        with psycopg.connect(self.env.db_url, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def broken(self) -> list[Any]:
        """What verify_ledger finds in the whole ledger."""
        found: list[Any] = self.env.client(self.env.secret_key).rpc("verify_ledger").execute().data  # type: ignore[assignment]
        return found


def ending(shop: Shop, buyer: Buyer) -> Row:
    """What must not depend on how Stripe's messages came: money, credits, lots, states."""
    account = shop.sql(
        "select a.id, a.balance, a.available, a.frozen_reason from public.credit_accounts as a "
        "where a.user_id = %s", buyer.id,
    )[0]  # fmt: skip
    lots = shop.sql(
        "select l.source, sum(l.remaining)::bigint, count(l.expires_at) "
        "from credits.lots_as_of_now(%s) as l where l.remaining > 0 group by 1 order by 1",
        account[0],
    )
    purchases = shop.sql(
        "select coalesce(package, 'plan'), status::text, amount, currency, credits, credits_granted, "
        "credits_clawed_back, refunded_amount, disputed_amount from public.purchases "
        "where account_id = %s order by 1, 3, 5, 6, 7, 8", account[0],
    )  # fmt: skip
    subscriptions = shop.sql(
        "select status, paused, cancel_at is null, quantity from public.subscriptions where account_id = %s",
        account[0],
    )
    return {
        "account": account[1:], "lots": lots, "purchases": purchases, "subscriptions": subscriptions,
    }  # fmt: skip
