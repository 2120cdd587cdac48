"""What a test does to the stand-in that nobody can do to Stripe: pay, decline, dispute, turn the clock, lose
webhooks. Each method is POST /_control/NAME with the arguments as JSON.

    control = Control(STRIPE_API_BASE)
    control.complete(session.id)                  # the buyer pays
    control.delivery("hold")                      # events wait ...
    control.deliver(seed=7, times=3, connections=8)   # ... and come shuffled, three times each
    control.advance(days=31)                      # subscriptions renew
"""

import time
from types import TracebackType
from typing import Any, Literal

import httpx

JSON = dict[str, Any]
Mode = Literal["normal", "hold", "drop", "shuffle"]


class ControlError(Exception):
    """The stand-in refused; the message says why."""


class Control:
    """A client of the controls of the stand-in at `base` (STRIPE_API_BASE)."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self._http = httpx.Client(base_url=self.base, timeout=120, trust_env=False)

    def __enter__(self) -> "Control":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _post(self, verb: str, **given: Any) -> JSON:
        answer = self._http.post(f"/_control/{verb}", json=given)
        body: JSON = answer.json()
        if answer.is_error:
            raise ControlError(body.get("message", answer.text))
        return body

    # -- checkout ------------------------------------------------------------------------------

    def complete(
        self, session: str, *, delayed: bool = False, code: str | None = None, email: str | None = None,
        card: bool = True,
    ) -> JSON:  # fmt: skip
        """The buyer pays. Returns the session.

        delayed: with a bank debit, whose result comes by finish_delayed(). code: a promotion code entered
        first. card False: start a trial without a card (payment_method_collection=if_required).
        """
        return self._post("complete", session=session, delayed=delayed, code=code, email=email, card=card)

    def decline(self, session: str, reason: str = "generic_decline") -> JSON:
        """A card is declined; the session stays open."""
        return self._post("decline", session=session, reason=reason)

    def expire(self, session: str) -> JSON:
        """An abandoned session expires (24 hours early)."""
        return self._post("expire", session=session)

    def finish_delayed(self, session: str, success: bool = True) -> JSON:
        """The bank's result of a delayed payment: async_payment_succeeded or _failed."""
        return self._post("finish_delayed", session=session, success=success)

    # -- disputes, refunds, failing charges ----------------------------------------------------

    def dispute(
        self, charge: str, amount: int | None = None, *, reason: str = "fraudulent", inquiry: bool = False
    ) -> JSON:
        """Dispute a charge (id of a charge or a payment intent), for minor units, or all not refunded yet."""
        return self._post("dispute", charge=charge, amount=amount, reason=reason, inquiry=inquiry)

    def move_dispute(
        self, dispute: str, to: Literal["win", "lose", "close", "escalate", "block", "resolve"]
    ) -> JSON:
        """Win or lose a dispute; close an inquiry, or escalate it to a dispute; prevent a chargeback, by
        evidence (block: the money comes back) or by leaving the money with the cardholder (resolve).
        """
        return self._post("move_dispute", dispute=dispute, to=to)

    def warn_of_fraud(self, charge: str, fraud_type: str = "made_with_stolen_card") -> JSON:
        """The issuer warns of a charge (id of a charge or a payment intent)."""
        return self._post("warn_of_fraud", charge=charge, fraud_type=fraud_type)

    def settle_refund(self, refund: str, success: bool = False) -> JSON:
        """A refund fails, also after it counted as done; or a pending one succeeds."""
        return self._post("settle_refund", refund=refund, success=success)

    def fail_payments(
        self, times: int = 1, *, customer: str | None = None, reason: str = "generic_decline"
    ) -> JSON:
        """The next charges of invoices are declined; times=0 takes it back."""
        return self._post("fail_payments", times=times, customer=customer, reason=reason)

    # -- time ----------------------------------------------------------------------------------

    def advance(self, *, days: int = 0, hours: int = 0, seconds: int = 0) -> JSON:
        """Move the clock on; what falls due happens in order. Returns {happened, now}."""
        return self._post("advance", seconds=days * 86400 + hours * 3600 + seconds)

    def now(self) -> int:
        """The stand-in's time, in seconds since 1970."""
        return int(self._post("now")["now"])

    # -- webhooks ------------------------------------------------------------------------------

    def delivery(self, mode: Mode = "normal", *, times: int = 1, seed: int = 0, window: float = 0.2) -> JSON:
        """How events made from now on are delivered.

        normal: at once. hold: they wait for deliver(). drop: never (the events are there to list).
        shuffle: gathered for `window` seconds and sent in the order that `seed` gives. times: how often each.
        """
        return self._post("delivery", mode=mode, times=times, seed=seed, window=window)

    def deliver(
        self, *, types: list[str] | None = None, events: list[str] | None = None, ordered: bool = False,
        seed: int | None = None, times: int = 1, connections: int = 1, states: list[str] | None = None,
    ) -> list[JSON]:  # fmt: skip
        """Send now what waits (states held and pending), one attempt each, and return the answers.

        Each answer is {event, type, status, error, body}. `types` and `events` choose; `ordered` keeps the
        order of `events`; `seed` shuffles; `times` repeats; `connections` work side by side. What fails is
        tried again later, as always. states=["dropped"] sends what was dropped.
        """
        sent: list[JSON] = self._post(
            "deliver", types=types, events=events, ordered=ordered, seed=seed, times=times,
            connections=connections, states=states,
        )["data"]  # fmt: skip
        return sent

    def redeliver(self, event: str, times: int = 1) -> JSON:
        """Queue an event once more, as a person does in Stripe's dashboard."""
        return self._post("redeliver", event=event, times=times)

    def deliveries(self, event: str | None = None) -> list[JSON]:
        """All deliveries, or an event's: {id, event, type, url, state, due, attempts: [{status, ...}]}."""
        found: list[JSON] = self._post("deliveries", event=event)["data"]
        return found

    def settled(self, seconds: float = 30) -> list[JSON]:
        """Wait until nothing is pending or under way; returns the deliveries. Late: ControlError."""
        deadline = time.monotonic() + seconds
        while True:
            counts = self._post("pending")
            if not counts.get("pending") and not counts.get("sending"):
                return self.deliveries()
            if time.monotonic() > deadline:
                raise ControlError(f"Deliveries are still under way after {seconds} s: {counts}")
            time.sleep(0.02)

    def forget_deliveries(self) -> JSON:
        """Drop whatever is pending or held."""
        return self._post("forget_deliveries")

    def events(self, kind: str | None = None, *, after: str | None = None) -> list[JSON]:
        """Events, oldest first: of a type, those after the event with the id `after`, or all."""
        found: list[JSON] = self._post("all_events", type=kind, after=after)["data"]
        return found

    def last_event(self) -> str | None:
        """The id of the newest event, for events(after=...)."""
        last: str | None = self._post("last_event")["id"]
        return last

    def webhook_url(self, url: str | None) -> JSON:
        """Send events there; None: nobody listens, no deliveries are made."""
        return self._post("settings", webhook_url=url)

    def enabled_events(self, kinds: list[str]) -> JSON:
        """Which types the endpoint has selected; ["*"] is all."""
        return self._post("settings", enabled_events=kinds)

    def secrets(
        self, current: str | None = None, previous: str | None = None,
        sign_with: Literal["current", "previous", "both"] = "current",
    ) -> JSON:  # fmt: skip
        """Sign with other secrets. None for `current` is STRIPE_WEBHOOK_SECRET; `both` is Stripe's roll."""
        return self._post(
            "settings", secrets={"current": current, "previous": previous, "sign_with": sign_with}
        )

    def first_retry(self, seconds: float) -> JSON:
        """How long after a failed delivery the first retry comes (0.5); it doubles up to 30 s."""
        return self._post("settings", first_retry=seconds)

    # -- the API -------------------------------------------------------------------------------

    def trouble(
        self, times: int = 1, *, status: int | None = None, after: bool = False, seconds: float = 0
    ) -> JSON:
        """The next API requests take `seconds` longer, or fail with `status`: before doing anything, "
        "or `after`.
        """
        return self._post(
            "settings", trouble={"times": times, "status": status, "after": after, "seconds": seconds}
        )

    def requests(self, after: int = 0) -> list[JSON]:
        """API requests: {seq, method, path, params (the decoded form), idempotency_key, status, ...}."""
        found: list[JSON] = self._post("requests", after=after)["data"]
        return found

    def reset(self) -> None:
        """All settings as at first. Objects, events and the clock stay."""
        self._post("reset")
