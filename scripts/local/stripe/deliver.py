"""Webhook deliveries: signed as Stripe signs, tried again until a 2xx, remembered across restarts.

pending --> sending --> delivered
   ^           |------> pending, due later (0.5 s, 1 s, 2 s ... 30 s), or failed after 20 attempts
held: waits for a control.   dropped: never sent, unless a control redelivers it.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import random
import time
from typing import TYPE_CHECKING, Any

from .errors import JSON
from .world import World

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("stripe")

FIRST_RETRY, LAST_RETRY, MAX_ATTEMPTS = 0.5, 30.0, 20  # seconds, seconds, attempts
TIMEOUT = 10.0
AT_ONCE = 8


def sign(payload: str, secrets: list[str], at: int) -> str:
    """The header Stripe-Signature: while a secret is rolled, there is a v1 for each."""
    signatures = [
        hmac.new(secret.encode(), f"{at}.{payload}".encode(), hashlib.sha256).hexdigest()
        for secret in secrets
    ]
    return ",".join([f"t={at}", *(f"v1={signature}" for signature in signatures)])


class Courier:
    """Sends what is due, in the background and when a control says so."""

    def __init__(self, world: World, secret: str) -> None:
        self.world = world
        self.secret = secret
        self.wake = asyncio.Event()
        self._client: httpx.AsyncClient | None = None
        self._running: set[asyncio.Task[Any]] = set()

    def secrets(self) -> list[str]:
        """Those to sign with, by the settings of the controls."""
        chosen = self.world.store.setting("secrets") or {}
        current, previous = chosen.get("current") or self.secret, chosen.get("previous")
        both = {"current": [current], "previous": [previous], "both": [current, previous]}
        return [secret for secret in both[chosen.get("sign_with", "current")] if secret]

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self.wake.clear()
            wait = self._start_due()
            try:
                await asyncio.wait_for(self.wake.wait(), wait)
            except TimeoutError:
                continue

    def _start_due(self) -> float | None:
        """Start deliveries that are due. Returns the seconds until the next is; None when there is none."""
        store = self.world.store
        free = AT_ONCE - len(self._running)
        if free <= 0:
            return None  # a delivery that ends wakes us
        mode = store.setting("delivery", {"mode": "normal"})
        shuffle = mode["mode"] == "shuffle"
        due = store.rows(
            "select id from deliveries where state = 'pending' and due <= ? order by due, id limit ?",
            time.time(), 1000 if shuffle else free,
        )  # fmt: skip
        ids = [row["id"] for row in due]
        if shuffle:
            random.Random(mode.get("seed", 0)).shuffle(ids)  # noqa: S311
        for delivery in ids[:free]:
            store.run("update deliveries set state = 'sending' where id = ?", delivery)
            task = asyncio.create_task(self.send(delivery))
            self._running.add(task)
            task.add_done_callback(self._done)
        if len(ids) > free:
            return None
        rows = store.rows("select min(due) as due from deliveries where state = 'pending'")
        return None if rows[0]["due"] is None else max(0.0, rows[0]["due"] - time.time())

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running.discard(task)
        self.wake.set()
        if not task.cancelled() and task.exception():
            log.error("A delivery broke off", exc_info=task.exception())

    async def send(self, delivery: int) -> JSON:
        """One attempt. Returns what came of it: event, type, status (HTTP, None without one), error."""
        store = self.world.store
        row = store.rows("select * from deliveries where id = ?", delivery)[0]
        event = store.get(row["event"])
        assert event is not None
        payload = json.dumps(event, indent=2)
        status, error, body = None, None, ""
        try:
            client = await self._open()
            answer = await client.post(
                row["url"], content=payload.encode(),
                headers={
                    "Content-Type": "application/json; charset=utf-8",
                    "Stripe-Signature": sign(payload, self.secrets(), int(time.time())),
                    "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
                },
            )  # fmt: skip
            status, body = answer.status_code, answer.text[:1000]
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        self._record(row, status, error, body)
        return {"event": event["id"], "type": event["type"], "status": status, "error": error, "body": body}

    def _record(self, row: Any, status: int | None, error: str | None, body: str) -> None:
        store, attempts = self.world.store, row["attempts"] + 1
        if status is not None and 200 <= status < 300:
            state, due = "delivered", None
        elif attempts >= MAX_ATTEMPTS:
            state, due = "failed", None
        else:
            first = store.setting("first_retry", FIRST_RETRY)
            state, due = "pending", time.time() + min(first * 2 ** (attempts - 1), LAST_RETRY)
        with store.transaction():
            store.run(
                "insert into attempts (delivery, event, at, status, error, body) values (?, ?, ?, ?, ?, ?)",
                row["id"], row["event"], time.time(), status, error, body,
            )  # fmt: skip
            # What was delivered once stays so, also when it is sent again and that fails.
            store.run(
                "update deliveries set attempts = attempts + 1, state = ?, due = ? "
                "where id = ? and state <> 'delivered'",
                state, due, row["id"],
            )  # fmt: skip

    async def _open(self) -> "httpx.AsyncClient":
        if self._client is None:
            import httpx  # late, to keep the start short

            self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, follow_redirects=False)
        return self._client

    async def close(self) -> None:
        """Let go of what is under way; it is due again after the next start."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._client:
            await self._client.aclose()
