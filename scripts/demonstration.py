"""The main job from end to end, narrated: what scripts/demo runs.

Everything goes the way an app goes: supabase-py for the users and the operator, Stripe's page for who pays,
Stripe's library for refunds, SQL for the DBA. Stripe is the local one.
"""

import argparse
import csv
import io
import json
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import psycopg
import stripe
from postgrest.exceptions import APIError

from supabase import Client, FunctionsError, create_client

from . import history
from .local.stack import Stack, StackError, Status
from .local.stripe.control import Control, ControlError
from .local.stripe.world import API_VERSION

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / ".stack" / "demo.png"  # what Ann generates
HOME = "http://localhost:3000/"

Row = dict[str, Any]

FAILED_CALL = (APIError, FunctionsError, ControlError, stripe.StripeError, httpx.HTTPError, psycopg.Error)


class UnexpectedError(Exception):
    """A step that did not go as it should."""


def expect(right: bool, what: str) -> None:
    """Raise UnexpectedError unless `right`."""
    if not right:
        raise UnexpectedError(what)


def refused(call: Callable[[], object], code: str) -> APIError:
    """The error of a call that must be refused with `code`, such as PT402."""
    try:
        answer = call()
    except APIError as error:
        expect(error.code == code, f"expected {code}, and got {error.code}: {error.message}")
        return error
    raise UnexpectedError(f"expected {code}, and the call was answered with {answer}")


class Demo:
    """The steps, in the order in which they are told. Each raises UnexpectedError when it goes wrong."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.operator = self._client(status.secret_key)
        self.ann = self._client(status.publishable_key)
        self.bob = self._client(status.publishable_key)
        self.password = uuid.uuid4().hex
        self.ann_id = ""
        self.checkout: Row = {}
        self.spend: Row = {}

    def _client(self, key: str) -> Client:
        return create_client(self.status.api_url, key)

    def _credits(self, client: Client) -> Row:
        rows = client.table("user_credits").select("*").execute().data
        expect(len(rows) == 1, f"user_credits has {len(rows)} rows")
        return dict(rows[0])  # type: ignore[arg-type]

    def _rpc(self, client: Client, name: str, **arguments: object) -> Any:
        return client.rpc(name, arguments).execute().data

    def sign_up(self) -> str:
        """A user signs up; a trigger opens the account and grants the bonus."""
        for client, name in ((self.ann, "ann"), (self.bob, "bob")):
            answer = client.auth.sign_up(
                {"email": f"{name}-{uuid.uuid4().hex[:8]}@example.com", "password": self.password}
            )
            expect(answer.session is not None, "the sign-up gave no session")
            if client is self.ann:
                assert answer.user is not None
                self.ann_id = answer.user.id
        mine = self._credits(self.ann)
        expect(mine["balance"] == 10, f"the bonus is {mine['balance']}")
        return f"Ann signed up through /auth/v1 and has {mine['available']} credits. So did Bob."

    def buy(self) -> str:
        """Ann's app asks for a checkout of a package."""
        order = {"package": "starter", "success_url": HOME, "cancel_url": HOME}
        answer = self.ann.functions.invoke("checkout", {"body": order, "responseType": "json"})
        assert isinstance(answer, dict)
        self.checkout = answer
        page = httpx.get(self.checkout["url"]).raise_for_status().text
        expect("$4.99" in page, "the page does not ask for $4.99")
        expect(self._credits(self.ann)["balance"] == 10, "credits came before the payment")
        return f"Starter, $4.99: {self.checkout['url']}"

    def pay(self) -> str:
        """She pays on Stripe's page; Stripe tells the webhook."""
        paid = httpx.post(self.checkout["url"], data={"do": "pay"})
        expect(paid.headers.get("location") == HOME, f"the page answered with status {paid.status_code}")
        self._await_webhooks()
        mine = self._credits(self.ann)
        expect(mine["balance"] == 60, f"the balance is {mine['balance']}")
        (purchase,) = self.ann.table("purchases").select("*").execute().data
        assert isinstance(purchase, dict)
        expect(
            (purchase["status"], purchase["amount"], purchase["credits_granted"]) == ("paid", 499, 50),
            f"the purchase is {purchase}",
        )
        return f"+{purchase['credits_granted']} credits, balance {mine['balance']}."

    def _await_webhooks(self) -> None:
        """Until Stripe has told all."""
        with Control(self.status.stripe_api_base) as control:
            control.settled()

    def quote(self) -> str:
        """Ann asks what an image costs."""
        quote = self._rpc(self.ann, "quote_credits", operation="dalle3_image", quantity=2)
        expect(quote["credits"] == 20 and quote["affordable"], f"the quote is {quote}")
        return (
            f"2 x dalle3_image: {quote['credits']} credits, affordable with {quote['available']} available."
        )

    def consume(self) -> str:
        """Ann spends with her own token, with an idempotency key."""
        self.spend = self._rpc(
            self.ann, "consume_credits", operation="dalle3_image", quantity=2, idempotency_key="picture-1"
        )
        expect(self.spend["amount"] == -20 and self.spend["balance_after"] == 40, f"the row is {self.spend}")
        row = self.spend
        return f"Ledger row {row['id']}: {row['amount']} credits, balance {row['balance_after']}."

    def repeat(self) -> str:
        """The same call again, as after a lost answer."""
        again = self._rpc(
            self.ann, "consume_credits", operation="dalle3_image", quantity=2, idempotency_key="picture-1"
        )
        expect(again == self.spend, f"the repeat was answered with {again}")
        expect(self._credits(self.ann)["balance"] == 40, "the repeat was charged")
        other = refused(
            lambda: self._rpc(
                self.ann, "consume_credits", operation="image_edit", idempotency_key="picture-1"
            ),
            "PT409",
        )
        return (
            f"The same row came back and nothing was charged. The key with another request: {other.message}"
        )

    def other_user(self) -> str:
        """Bob looks for what is Ann's."""
        for table in ("credit_transactions", "credit_accounts", "user_credits"):
            rows = self.bob.table(table).select("*").execute().data
            expect("dalle3_image" not in json.dumps(rows), f"Bob sees {rows} in {table}")
        entry = {"account_id": self.spend["account_id"], "id": self.spend["id"]}
        seen = self.bob.table("credit_transactions").select("id").match(entry).execute().data
        expect(seen == [], f"Bob sees {seen}")
        error = refused(
            lambda: self._rpc(self.bob, "grant_credits", user_id=self.ann_id, amount=1, source="promo"),
            "42501",
        )
        return f"He sees his own rows only, and cannot grant himself anything: {error.message}."

    def too_much(self) -> str:
        """Ann asks for more than she has."""
        error = refused(lambda: self._rpc(self.ann, "consume_credits", operation="video_generation"), "PT402")
        figures = json.loads(str(error.details))
        expect(figures == {"required": 50, "available": 40, "shortfall": 10}, f"the figures are {figures}")
        expect(self._credits(self.ann)["balance"] == 40, "the refused call was charged")
        return f"HTTP 402: {error.message} {figures}. Nothing was charged."

    def hold(self) -> str:
        """A hold, captured in part."""
        hold = self._rpc(self.ann, "hold_credits", operation="meme_generation", quantity=4)
        during = self._credits(self.ann)
        expect((during["balance"], during["available"]) == (40, 20), f"during the hold: {during}")
        row = self._rpc(
            self.operator, "capture_hold", account_id=hold["account_id"], hold_id=hold["id"], quantity=3
        )
        after = self._credits(self.ann)
        expect(
            (row["amount"], after["available"], after["held"]) == (-15, 25, 0), f"after the capture: {after}"
        )
        return f"{hold['amount']} credits held for 4; 3 were delivered: {row['amount']}, the rest is free."

    def refund(self) -> str:
        """The operator refunds the image."""
        row = self._rpc(
            self.operator,
            "refund",
            account_id=self.spend["account_id"],
            transaction_id=self.spend["id"],
            reason="blurred",
            idempotency_key="ticket-7",
        )
        expect(row["amount"] == 20 and row["balance_after"] == 45, f"the row is {row}")
        again = {"account_id": self.spend["account_id"], "transaction_id": self.spend["id"]}
        error = refused(lambda: self._rpc(self.operator, "refund", **again), "PT409")
        return f"+{row['amount']} credits, balance {row['balance_after']}. Once more: {error.message}"

    def money_back(self) -> str:
        """Half of the money goes back, in Stripe; its share of the credits with it."""
        client = stripe.StripeClient(
            self.status.stripe_secret_key,
            stripe_version=API_VERSION,
            base_addresses={"api": self.status.stripe_api_base},
        )
        session = client.v1.checkout.sessions.retrieve(self.checkout["id"])
        client.v1.refunds.create({"payment_intent": str(session.payment_intent), "amount": 250})
        self._await_webhooks()
        mine = self._credits(self.ann)
        expect(mine["balance"] == 20, f"the balance is {mine['balance']}")
        (purchase,) = self.ann.table("purchases").select("*").execute().data
        assert isinstance(purchase, dict)
        expect(purchase["credits_clawed_back"] == 25, f"the purchase is {purchase}")
        return f"$2.50 of $4.99: -{purchase['credits_clawed_back']} credits, balance {mine['balance']}."

    def grant(self) -> str:
        """The operator grants her a package of 20, for the trouble."""
        row = self._rpc(
            self.operator, "grant_credits",
            user_id=self.ann_id, amount=20, source="promo", idempotency_key="apology-7",
        )  # fmt: skip
        expect(row["balance_after"] == 40, f"the row is {row}")
        return f"+{row['amount']} credits, balance {row['balance_after']}."

    def generate(self) -> str:
        """Ann generates an image: held, made by the provider, stored, charged."""
        order = {"operation": "stable_diffusion", "prompt": "a cat in a tin can"}
        answer = self.ann.functions.invoke("generate", {"body": order, "responseType": "json"})
        assert isinstance(answer, dict)
        expect((answer["credits_charged"], answer["available"]) == (3, 37), f"the answer is {answer}")
        (output,) = answer["outputs"]
        image = httpx.get(output["url"]).raise_for_status().content
        expect(image.startswith(b"\x89PNG"), "the output is no PNG")
        IMAGE.write_bytes(image)
        size = f"{output['width']} x {output['height']}, {len(image):,} bytes"
        return f"-3 credits, balance 37. {output['mime_type']}, {size}: {IMAGE.relative_to(ROOT)}"

    def reprice(self) -> str:
        """A DBA changes a price with one UPDATE."""
        with psycopg.connect(self.status.db_url, autocommit=True) as owner:
            owner.execute(f"create role dana login password '{self.password}' in role pricing_admin")
        with psycopg.connect(self.status.db_url, user="dana", password=self.password, autocommit=True) as dba:
            dba.execute("update pricing_tiers set credits_per_unit = 12.5 where operation = 'dalle3_image'")
            changed = dba.execute(
                """
                select old ->> 'credits_per_unit', new ->> 'credits_per_unit', changed_by
                from credits.pricing_tier_history where action = 'update'
                """
            ).fetchall()
        expect(len(changed) == 1, f"the history has {changed}")
        quote = self._rpc(self.ann, "quote_credits", operation="dalle3_image")
        expect(quote["credits"] == 13, f"the quote is {quote}")
        (past,) = (
            self.ann.table("credit_transactions").select("amount").eq("id", self.spend["id"]).execute().data
        )
        expect(past == {"amount": -20}, f"the past became {past}")
        old, new, who = changed[0]
        return f"{old} -> {new} by {who}. One image is now quoted at {quote['credits']}; the past stands."

    def history(self) -> str:
        """Ann's history, as a table and as CSV."""
        columns = "id,kind,amount,balance_after,operation,quantity"
        rows = self.ann.table("credit_transactions").select(columns).order("id").execute().data
        text = self.ann.table("credit_transactions").select(columns).order("id").csv().execute().data
        assert isinstance(text, str)
        lines = list(csv.DictReader(io.StringIO(text)))
        kinds = [line["kind"] for line in lines]
        told = ["grant", "grant", "spend", "capture", "refund", "clawback", "grant", "capture"]
        expect(kinds == told, f"the history is {kinds}")
        amounts = [str(row["amount"]) for row in rows if isinstance(row, dict)]
        expect(amounts == [line["amount"] for line in lines], "table and CSV differ")
        table = [columns.split(",")] + [[line[name] for name in columns.split(",")] for line in lines]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table
        ]
        return "\n".join([*shown, "", "As CSV:", *text.strip().splitlines()])

    def verify(self) -> str:
        """The operator verifies the whole ledger."""
        broken = self._rpc(self.operator, "verify_ledger")
        expect(broken == [], f"verify_ledger found {broken}")
        return "verify_ledger found nothing wrong."

    def steps(self) -> list[Callable[[], str]]:
        """In order."""
        return [
            self.sign_up, self.buy, self.pay, self.quote, self.consume, self.repeat, self.other_user,
            self.too_much, self.hold, self.refund, self.money_back, self.grant, self.generate, self.reprice,
            self.history, self.verify,
        ]  # fmt: skip


@contextmanager
def stack(port: int | None) -> Iterator[Stack]:
    """A stack named demo with a new database; gone afterwards, however the demo ends."""
    it = Stack(ROOT, "demo", port, say=lambda line: print(f"  {line}", flush=True))
    it.stop(delete=True)
    try:
        it.start(providers=True)
        yield it
    finally:
        it.stop(delete=True)


def run(port: int | None) -> None:
    """Tell the story. Raises UnexpectedError at the first step that goes wrong."""
    print("Starting the local stack", flush=True)
    began = time.monotonic()
    with stack(port) as it:
        status = it.status()
        print(f"  up on {status.api_url} in {time.monotonic() - began:.1f} s\n", flush=True)
        demo = Demo(status)
        for number, step in enumerate(demo.steps(), 1):
            print(f"{number:2}. {(step.__doc__ or '').rstrip('.')}", flush=True)
            for line in step().splitlines():
                print(f"    {line}".rstrip(), flush=True)
        print("\nStopping the local stack", flush=True)


def fill(name: str, users: int, seed: int) -> None:
    """Give a stack that runs 90 days of history, and say what is in it."""
    status = Stack(ROOT, name).status()
    began = time.monotonic()
    done = history.fill(status.db_url, users=users, seed=seed)
    seconds = time.monotonic() - began
    print(f"{done['users']} users, {done['rows']:,} ledger rows, {done['spends']:,} of them spends,")
    print(f"{done['purchases']} purchases, in {seconds:.1f} s. verify_ledger found nothing wrong.")
    print(f"Sign in as user01-{seed}@history.example, password: {history.PASSWORD}")


def interrupted(*_: object) -> NoReturn:
    """SIGTERM ends the demo as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> int:
    """Exit status 0 only if every step was as it should be."""
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Starts a stack of its own, walks from sign-up to refund, and removes the stack.",
        epilog="With --history it does something else: users of a stack that runs get 90 days of history, up "
        "to now: spends, holds, purchases, plans, refunds and expiries. The same seed does the same.",
    )
    parser.add_argument("--history", action="store_true", help="fill the stack of --stack, and leave it so")
    parser.add_argument("--stack", default="default", help="which one (default: default)", metavar="NAME")
    parser.add_argument("--users", type=int, default=50, help="how many users it gets (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="another history for each (default: 1)")
    parser.add_argument(
        "--port",
        type=int,
        help="port of the API; the database is on the next (default: 54321, or the next that is free)",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        if arguments.history:
            fill(arguments.stack, arguments.users, arguments.seed)
            return 0
        run(arguments.port)
    except UnexpectedError as error:
        print(f"\nThat is not as it should be: {error}", file=sys.stderr)
        return 1
    except (StackError, history.HistoryError) as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return 1
    except FAILED_CALL as error:
        print(f"\nA call failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the stack is stopped.", file=sys.stderr)
        return 130
    print("Every step was as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
