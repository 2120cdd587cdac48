"""Stripe's webhooks: what they cost beyond verifying and storing, and whether that grows with the table."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import uuid
from urllib.parse import urlsplit

import httpx
import stripe

from scripts.local.stack import ports
from scripts.local.stripe.control import Control
from scripts.local.stripe.world import API_VERSION

from .measures import CLIENTS, drive, users_of_main, verify
from .runner import Measure, progress
from .server import MAIN, PgbenchRun, Sample, Server

HTTP = httpx.Client(timeout=5, trust_env=False)
MOST_A_SECOND = 1500
"""Webhooks for which a run has events at hand; each is told once."""


def template(server: Server) -> str:
    """An event of a paid package in the local Stripe's words.

    $EVENT, $SESSION, $PAYMENT, $CUSTOMER and $ACCOUNT stand for ids.
    """
    status = server.stack.status()
    client = stripe.StripeClient(
        status.stripe_secret_key, stripe_version=API_VERSION, base_addresses={"api": status.stripe_api_base}
    )
    with Control(status.stripe_api_base) as control:
        control.webhook_url(None)
        metadata = {"account_id": "$ACCOUNT", "package": "starter", "quantity": "1", "credits": "50"}
        session = client.v1.checkout.sessions.create(
            {
                "mode": "payment",
                "metadata": metadata,
                "payment_intent_data": {"metadata": metadata},
                "success_url": "https://app.example.com/thanks",
                "line_items": [
                    {
                        "quantity": 1,
                        "price_data": {
                            "currency": "usd",
                            "unit_amount": 499,
                            "product_data": {"name": "Starter"},
                        },
                    }
                ],
            }
        )
        paid = control.complete(session.id)
        (event,) = (
            event
            for event in control.events("checkout.session.completed")
            if event["data"]["object"]["id"] == session.id
        )
        control.reset()
    event["data"]["object"]["customer"] = "$CUSTOMER"
    text = json.dumps(event, indent=2)
    ids = {event["id"]: "$EVENT", session.id: "$SESSION", paid["payment_intent"]: "$PAYMENT"}
    for known, name in ids.items():
        text = text.replace(str(known), name)
    return text


class Webhooks(Measure):
    """Events of paid packages, each told once, to one process that serves both routes."""

    name = "webhooks"
    title = "webhooks applied, one function process, 16 connections"
    peer = "signature and INSERT of the raw event, same process"
    unit = "events/s"
    goal = 0.5

    def prepare(self) -> None:
        """See Measure."""
        users_of_main(self.server, self.options)
        self.server.run_sql(MAIN, "events", role="postgres")
        with self.server.connect() as admin:
            rows = admin.execute("select id::text from public.credit_accounts").fetchall()
        self.accounts = [str(row[0]) for row in rows]
        self.template = template(self.server)
        self.told = 0
        self._serve()
        try:
            self._wait()
            # Twice: what is planned while the tables are empty reads them whole, until they are analyzed.
            for _ in range(2):
                self.server.settle_down(MAIN)
                self.run_peer()
                self.run_ours()
        except BaseException:
            self._stop()
            raise

    def _serve(self) -> None:
        self.port = ports.ephemeral()
        environment = self.server.stack.gateway_settings().function_environment()
        # PostgREST itself takes tokens only; keys are the gateway's.
        environment["SUPABASE_SECRET_KEYS"] = json.dumps(
            {"default": environment["SUPABASE_SERVICE_ROLE_KEY"]}
        )
        self.secret = environment["STRIPE_WEBHOOK_SECRET"]
        root = self.server.stack.root
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--port", str(self.port), "--no-access-log",
             "--log-level", "warning", "scripts.benchmark.webhooks:app"],
            cwd=root,
            env={**os.environ, **environment, "PYTHONPATH": str(root / "functions"),
                 "POSTGREST_URL": self.server.postgrest_url},
        )  # fmt: skip

    def _stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def _wait(self) -> None:
        """Until both routes work; PostgREST hears of the peer's function by a notification."""
        deadline = time.monotonic() + 20
        for route in ("ours", "bare"):
            while True:
                try:
                    body, signature = self._event()
                    url = f"http://127.0.0.1:{self.port}/{route}/"
                    if HTTP.post(url, content=body, headers={"Stripe-Signature": signature}).is_success:
                        break
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"The route {route} does not answer.")
                time.sleep(0.1)

    def _event(self) -> tuple[bytes, str]:
        """A new event as Stripe sends it, and its signature."""
        self.told += 1
        known = {
            # Stripe's ids begin with their time; those of sessions do not.
            "$EVENT": f"evt_1{self.told:012d}{uuid.uuid4().hex[:12]}",
            "$SESSION": f"cs_test_{uuid.uuid4().hex}",
            "$PAYMENT": f"pi_1{self.told:012d}{uuid.uuid4().hex[:12]}",
            "$CUSTOMER": f"cus_{self.told % len(self.accounts)}",
            "$ACCOUNT": self.accounts[self.told % len(self.accounts)],
        }
        text = self.template
        for name, value in known.items():
            text = text.replace(name, value)
        at = int(time.time())
        signature = hmac.new(self.secret.encode(), f"{at}.{text}".encode(), hashlib.sha256).hexdigest()
        return text.encode(), f"t={at},v1={signature}"

    def _run(self, route: str) -> Sample:
        seconds = self.options.seconds
        wanted = round(MOST_A_SECOND * (seconds + 1)) // CLIENTS
        base = f"http://127.0.0.1:{self.port}"
        head = f"POST /{route}/ HTTP/1.1\r\nHost: {urlsplit(base).netloc}\r\n"
        requests = []
        for _ in range(CLIENTS):
            texts = []
            for _ in range(wanted):
                body, signature = self._event()
                texts.append(
                    f"{head}Content-Type: application/json\r\nStripe-Signature: {signature}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body.decode()}"
                )
            requests.append(texts)
        before = self._stored(route)
        sample, self.generator_share = drive(self.server, base, requests, seconds, route)
        answered, stored = sample.value * seconds, self._stored(route) - before
        if stored < answered:
            raise RuntimeError(f"{route}: {answered:.0f} events were answered, and {stored} are stored.")
        return sample

    def _stored(self, route: str) -> int:
        """How many events have brought their credits, or were inserted."""
        with self.server.connect() as admin:
            row = admin.execute(
                "select count(*) from public.purchases where credits_granted = 50"
                if route == "ours"
                else "select count(*) from events.raw"
            ).fetchone()
        assert row and isinstance(row[0], int)
        return row[0]

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._run("ours")

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._run("bare")

    def finish(self) -> None:
        """See Measure."""
        self._stop()
        self.notes.append(f"The load generator used {self.generator_share:.0%} of one core.")
        verify(self.server, MAIN)


MANY, FEW = "bench_many_events", "bench_few_events"


class Ingest(Measure):
    """The SQL function by itself: events of paid packages, each told once."""

    name = "ingest"
    title = "one event of a paid package ingested, 1,000,000 stored"
    peer = "the same with 1,000 stored"
    unit = "ms"
    more_is_better = False
    goal = 1.1

    def prepare(self) -> None:
        """See Measure."""
        self.accounts = self.options.size(10_000, 20)
        text = template(self.server)
        for database, stored in ((MANY, self.options.size(1_000_000)), (FEW, self.options.size(1_000))):
            progress(f"Filling {database}: {stored:,} events ...")
            self.server.create(database)
            self.server.run_sql(database, "stored_events", accounts=self.accounts, stored=stored)
            with self.server.connect(database) as admin:
                admin.execute("insert into events.template values (%s)", (text,))
            # A ledger with something in it, which is then analyzed: as in use.
            self._tell(database, clients=1)
            self.server.settle_down(database)
            self._tell(database, clients=CLIENTS)
        self.notes.append("Both tables grow by what each round tells.")

    def _tell(self, database: str, clients: int) -> PgbenchRun:
        return self.server.pgbench(
            database, "ingest", clients=clients, seconds=self.options.seconds, accounts=self.accounts,
            role="service_role",
        )  # fmt: skip

    def _run(self, database: str) -> Sample:
        run = self._tell(database, clients=1)
        return Sample(run.latency_ms, run.cpu_us, run.wal_bytes)

    def run_ours(self) -> Sample:
        """See Measure."""
        return self._run(MANY)

    def run_peer(self) -> Sample:
        """See Measure."""
        return self._run(FEW)


MEASURES: tuple[type[Measure], ...] = (Webhooks, Ingest)
