"""Makes up for whatever webhooks have missed: reads Stripe, and hands the database what it does not know yet.

Steps, each harmless to repeat and to run twice at once:

1. Events since the last run (less an overlap), oldest first, through ingest_stripe_event().
2. Once a day, objects as they are now, through ingest_stripe_object(): Stripe keeps events for 30 days only.
   With them, whether Stripe's Prices say what our rows say, and e-mail addresses that Stripe has to be told.
3. What Stripe took for payments, refunds and disputes: it books them after it tells of them.
4. Second subscriptions that are still to be cancelled and refunded.
5. Events that are stored and were not applied, once more: what they waited for may have come.

What is left then is a problem, for a person: to mend, or to dismiss.

How far the events were read is remembered only after all of them were stored: a run that breaks off, or in
which the database stumbled over one, is repeated.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import stripe

from ..database import service_rpc
from ..errors import FunctionError
from . import stripe_api
from .customers import forget, is_gone, tell_email
from .event_types import EVENT_TYPES
from .ingest import Outcome, as_body, ingest_event, ingest_object, is_unreadable
from .prices import as_problems, check_prices
from .second_subscriptions import settle_all
from .stripe_api import Listing, Object, moment, pages

TYPES_AT_ONCE = 20  # Stripe's limit for one list

HOUR, DAY = 3600, 24 * 3600
OVERLAP = HOUR  # a list may show an event late
REFUND_BOOKINGS = ("balance_transaction", "failure_balance_transaction")
RETENTION = 30 * DAY  # Stripe's, for events
DAYS = 35  # how far back a sweep looks: further than events go
DISPUTE_DAYS = 180  # disputes are decided months after they were opened
SWEEP_EVERY = 23 * HOUR  # less than a day, so that a daily run sweeps each time

BATCH = 100
ASKED_AT_ONCE = 10
PROBLEMS = 1000  # how many the report names
REFUSED = "refused"  # not even stored
PROBLEMATIC = ("failed", "quarantined", REFUSED)

Step = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """`sweep`: sweep now, also when the last one was today. `days`: how far back it looks."""

    sweep: bool = False
    days: int = DAYS


@dataclass
class Report:
    """What a run found. Counts are by kind, and by what the database made of it."""

    since: int = 0
    through: int = 0
    events: dict[str, Counter[str]] = field(default_factory=dict)
    objects: dict[str, Counter[str]] | None = None
    retried: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)
    seconds: Counter[str] = field(default_factory=Counter)
    emails: int = 0
    fees: int = 0
    refused: int = 0  # events that the database stumbled over, and that have to be read again

    def count_event(self, event: Object, outcome: Outcome) -> None:
        """Note what became of an event. One that is stored may yet be applied, in the last step."""
        self.events.setdefault(event["type"], Counter())[outcome["status"]] += 1
        self.refused += outcome.get("again", False)
        if outcome["status"] == REFUSED:
            self._problem(event["type"], event["id"], outcome)

    def count_object(self, kind: str, item: Object, outcome: Outcome) -> None:
        """Note what became of an object."""
        assert self.objects is not None
        self.objects[kind][outcome["status"]] += 1
        if outcome["status"] in PROBLEMATIC:
            self._problem(kind, item["id"], outcome)

    def count_stored(self, event: Object) -> None:
        """Note an event that could not be applied, in this run or an earlier one."""
        self._problem(event["type"], event["id"], {"status": event["status"], "reason": event["reason"]})

    def count_second(self, row: Object, reason: str | None) -> None:
        """Note a second subscription, and why it is not settled."""
        self.seconds["open" if reason else "settled"] += 1
        if reason:
            self._problem("second subscription", row["subscription_id"], {"status": "open", "reason": reason})

    def count_customer(self, customer: str, reason: str) -> None:
        """Note a customer whose address Stripe did not take."""
        self._problem("customer", customer, {"status": "failed", "reason": reason})

    def count_fee(self, transaction: str, outcome: Outcome) -> None:
        """Note what became of a balance transaction that Stripe was asked for."""
        self.fees += outcome["status"] == "changed"
        if outcome["status"] in PROBLEMATIC:
            self._problem("balance_transaction", transaction, outcome)

    def _problem(self, kind: str, item_id: str, outcome: Outcome) -> None:
        if len(self.problems) < PROBLEMS:
            self.problems.append({"id": item_id, "kind": kind, **outcome})

    def as_json(self) -> Step:
        """The report: `missing` and `repaired` sum up what the rest counts."""
        objects = self.objects or {}
        found = sum(counts["applied"] for counts in self.events.values())
        changed = sum(counts["changed"] for counts in objects.values())
        return {
            "ok": not self.problems,
            "events_missing": found,
            "objects_repaired": changed,
            "events_retried_with_success": self.retried["applied"],
            "events_still_failed": self.retried["failed"],
            "events_still_quarantined": self.retried["quarantined"],
            "second_subscriptions": dict(self.seconds),
            "emails_told": self.emails,
            "fees_learned": self.fees,
            "since": moment(self.since),
            "through": moment(self.through),
            "events": {kind: dict(counts) for kind, counts in sorted(self.events.items())},
            "objects": None
            if self.objects is None
            else {kind: dict(counts) for kind, counts in objects.items()},
            "problems": self.problems,
        }


def unix(text: str | None) -> int | None:
    """ISO 8601 as Unix seconds."""
    return int(datetime.fromisoformat(text).timestamp()) if text else None


async def reconcile(options: Options) -> AsyncIterator[Step]:
    """Run. Yields {"progress": sentence} now and then, and {"report": …} at the end.

    Raises StripeError and FunctionError when Stripe or the database is away: nothing is lost, run it again.
    """
    report = Report()
    began = int(time.time())
    known = await service_rpc("stripe_sync")
    # Stripe's clock, not ours, says how far its events go.
    newest = stripe_api.raw(await stripe_api.client().v1.events.list_async({"limit": 1}))["data"]
    report.through = newest[0]["created"] if newest else began
    through = unix(known["events_through"])
    report.since = through - OVERLAP if through is not None else report.through - RETENTION

    async for step in _read_events(report):
        yield step
    if not report.refused:
        await service_rpc("stripe_sync", events_through=moment(report.through))

    swept_at = unix(known["swept_at"])
    if options.sweep or swept_at is None or began - swept_at >= SWEEP_EVERY:
        report.objects = {}
        async for step in _sweep(report, report.through, options.days):
            yield step
        async for step in _compare_prices(report):
            yield step
        await _tell_emails(report)
        await service_rpc("stripe_sync", swept_at=moment(began))

    async for row, reason in settle_all():
        report.count_second(row, reason)
    async for step in _retry(report):
        yield step
    for event in await service_rpc("stripe_problems"):
        report.count_stored(event)
    # Last: it moves no credits, and may be of many.
    async for step in _learn_fees(report):
        yield step
    yield {"report": report.as_json()}


# -- events ------------------------------------------------------------------------------------------


async def _read_events(report: Report) -> AsyncIterator[Step]:
    yield {"progress": f"Reading events from {moment(report.since)} to {moment(report.through)} ..."}
    for start in range(0, len(EVENT_TYPES), TYPES_AT_ONCE):
        types = list(EVENT_TYPES[start : start + TYPES_AT_ONCE])
        span = {"types": types, "created": {"gte": report.since, "lte": report.through}}
        async for page in _oldest_first(stripe_api.client().v1.events.list_async, span):
            for event in page:
                report.count_event(event, await _readable(ingest_event(as_body(event))))
            yield {"progress": f"{sum(counts.total() for counts in report.events.values())} events read."}


async def _oldest_first(listing: Listing, params: Object) -> AsyncIterator[list[Object]]:
    """The pages of a list from its end to its beginning, each oldest first.

    Stripe gives the newest first. Only the id at the end of each page is kept, and the pages are read once
    more: a month of events need not fit into memory. The first page is kept whole: what begins at the top of
    the list would begin elsewhere the second time, when something new has come.
    """
    ends: list[str] = []
    first: list[Object] = []
    last: list[Object] = []
    async for page in pages(listing, params):
        if page:
            first, last = first or page, page
            ends.append(page[-1]["id"])
    if len(ends) > 1:
        yield last[::-1]
    for cursor in reversed(ends[:-2]):
        async for page in pages(listing, params, cursor):
            yield page[::-1]
            break
    if first:
        yield first[::-1]


async def _readable(ingestion: Awaitable[Outcome]) -> Outcome:
    """The outcome; what the database cannot read or stumbles over is one, too, and does not stop the run."""
    try:
        outcome = await ingestion
    except FunctionError as error:
        if is_unreadable(error):
            return {"status": REFUSED, "reason": f"The database cannot read it ({error.code})."}
        await service_rpc("stripe_sync")  # raises when the database itself is away
        return {"status": REFUSED, "reason": f"The database refused it ({error.code}).", "again": True}
    return {"status": outcome["status"], "reason": outcome["reason"]}


# -- objects -----------------------------------------------------------------------------------------


async def _sweep(report: Report, through: int, days: int) -> AsyncIterator[Step]:
    """Compare objects. Sessions and subscriptions first: the others refer to them."""
    v1 = stripe_api.client().v1
    recent = {"created": {"gte": through - days * DAY}}
    old_disputes = {"created": {"gte": through - max(days, DISPUTE_DAYS) * DAY}}
    lists: tuple[tuple[str, Listing, Object], ...] = (
        ("checkout.session", v1.checkout.sessions.list_async, recent),
        # All of them: one from years ago may have been cancelled yesterday.
        ("subscription", v1.subscriptions.list_async, {"status": "all"}),
        ("invoice", v1.invoices.list_async, {"status": "paid", **recent}),
        ("invoice_payment", v1.invoice_payments.list_async, {"status": "paid", **recent}),
        ("charge", v1.charges.list_async, {**recent, "expand": expanded("balance_transaction")}),
        ("refund", v1.refunds.list_async, {**recent, "expand": expanded(*REFUND_BOOKINGS)}),
        ("dispute", v1.disputes.list_async, old_disputes),
        ("radar.early_fraud_warning", v1.radar.early_fraud_warnings.list_async, recent),
    )
    assert report.objects is not None
    for kind, listing, params in lists:
        report.objects[kind] = Counter()
        yield {"progress": f"Comparing each {kind} ..."}
        async for page in pages(listing, params):
            for item in page:
                whole = await stripe_api.with_all_lines(item) if kind == "invoice" else item
                report.count_object(kind, item, await _readable(ingest_object(whole)))
            if report.objects[kind].total() > stripe_api.PAGE:
                yield {"progress": f"{report.objects[kind].total()} compared."}


def expanded(*names: str) -> list[str]:
    """Fields of what a list shows, as objects instead of their ids."""
    return [f"data.{name}" for name in names]


# -- fees --------------------------------------------------------------------------------------------


async def _learn_fees(report: Report) -> AsyncIterator[Step]:
    after = ""
    while ids := await service_rpc("stripe_balance_transactions_to_ask", after=after):
        yield {"progress": f"Asking what Stripe took for {len(ids)} payments ..."}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            part = ids[start : start + ASKED_AT_ONCE]
            try:
                outcomes = await asyncio.gather(*map(_fee, part))
            except stripe.StripeError as error:  # the same for the rest; the next run asks again
                reason = f"Stripe does not tell what it took ({error.code or type(error).__name__})."
                report.count_fee(part[0], {"status": "failed", "reason": reason})
                return
            for transaction, outcome in zip(part, outcomes, strict=True):
                report.count_fee(transaction, outcome)
        after = ids[-1]


async def _fee(transaction: str) -> Outcome:
    try:
        booked = stripe_api.raw(await stripe_api.client().v1.balance_transactions.retrieve_async(transaction))
    except stripe.InvalidRequestError as error:
        return {"status": "failed", "reason": f"Stripe refuses ({error.code or type(error).__name__})."}
    return await _readable(ingest_object(booked))


# -- prices and addresses ----------------------------------------------------------------------------


async def prices_only() -> AsyncIterator[Step]:
    """Compare Stripe's Prices with our rows, and nothing else. Yields as reconcile()."""
    report = Report()
    async for step in _compare_prices(report):
        yield step
    yield {"report": {"ok": not report.problems, "problems": report.problems}}


async def _compare_prices(report: Report) -> AsyncIterator[Step]:
    yield {"progress": "Comparing each price ..."}
    async for price_id, differences in check_prices():
        report.problems += as_problems(price_id, differences)


async def _tell_emails(report: Report) -> None:
    for row in await service_rpc("stripe_emails_to_tell"):
        try:
            await tell_email(row["account_id"], row["customer_id"], row["email"])
        except stripe.InvalidRequestError as error:
            if is_gone(error):
                await forget(row["customer_id"])  # the next checkout makes a new one
            else:
                report.count_customer(row["customer_id"], str(error.user_message or error.code))
                continue
        report.emails += 1


# -- what is stored and was not applied --------------------------------------------------------------


async def _retry(report: Report) -> AsyncIterator[Step]:
    began = datetime.now(UTC).isoformat()
    # One a call: a transaction over several would hold the locks of all.
    while (done := await service_rpc("retry_stripe_events", before=began))["retried"]:
        report.retried.update(done)
        if report.retried["retried"] % BATCH == 1:
            yield {"progress": f"{report.retried['retried']} stored events tried again."}
