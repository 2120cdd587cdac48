"""What scripts/reconcile runs: the same code as the function stripe-reconcile, for a person or a timer."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import stripe

from .local.stack import Stack, StackError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "functions"))

from _shared import database  # noqa: E402
from _shared.errors import FunctionError  # noqa: E402
from _shared.payments import stripe_api  # noqa: E402
from _shared.payments.reconcile import DAYS, Options, prices_only, reconcile  # noqa: E402

DESCRIPTION = """\
Reads Stripe's events since the last run, once per day also its objects, and gives the database what it has
missed. Harmless to repeat, to interrupt, and to run twice at once. Exit status 1 when something is left that
a person has to look at, or when Stripe or the database is away.
"""
ENVIRONMENT = """\
environment: SUPABASE_URL, SUPABASE_SECRET_KEYS (or SUPABASE_SECRET_KEY) and STRIPE_SECRET_KEY, or --stack.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of scripts/reconcile."""
    top = argparse.ArgumentParser(
        prog="scripts/reconcile",
        description=DESCRIPTION,
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--sweep", action="store_true", help="compare objects also if that was done today")
    top.add_argument(
        "--days",
        type=int,
        default=DAYS,
        metavar="N",
        help="how far back to compare them (default: %(default)s)",
    )
    top.add_argument(
        "--check-prices", action="store_true", help="compare Stripe's Prices with our rows, and nothing else"
    )
    top.add_argument(
        "--dismiss", metavar="ID", help="let a problem of this id (evt_… or another) go; needs --why"
    )
    top.add_argument("--why", metavar="TEXT", help="why it may have no effect")
    top.add_argument("--stack", metavar="NAME", help="a local stack, with its keys and its local Stripe")
    top.add_argument("--json", action="store_true", help="print the report as JSON")
    return top


async def dismiss(object_id: str, why: str) -> dict[str, Any]:
    """Dismiss an event, or the problems of another object. Returns what was noted."""
    try:
        if object_id.startswith("evt_"):
            noted = await database.service_rpc("dismiss_stripe_event", event_id=object_id, why=why)
        else:
            noted = await database.service_rpc("dismiss_stripe_object", object_id=object_id, why=why)
    finally:
        await database.close()
    return {"ok": True, "dismissed": noted}


async def run(steps: AsyncIterator[dict[str, Any]]) -> dict[str, Any]:
    """Run, with progress on stderr. Returns the report."""
    report: dict[str, Any] = {}
    try:
        async for step in steps:
            if "progress" in step:
                print(step["progress"], file=sys.stderr, flush=True)
            report = step.get("report", report)
    finally:
        await database.close()
    return report


def counted(title: str, table: dict[str, dict[str, int]]) -> list[str]:
    """A line a kind: `invoice.paid: 3 applied, 20 duplicate`."""
    return [title] + [
        f"  {kind}: {', '.join(f'{number} {status}' for status, number in sorted(counts.items())) or 'none'}"
        for kind, counts in table.items()
    ]


def summary(report: dict[str, Any]) -> str:
    """The report for people: what was missing, what was repaired, what is left."""
    if "dismissed" in report:
        return f"Dismissed: {report['dismissed']['id']}: {report['dismissed']['why']}"
    left = [
        f"  {problem['status']}: {problem['kind']} {problem['id']}: {problem['reason']}"
        for problem in report["problems"]
    ]
    if "events" not in report:
        return "\n".join(left or ["Stripe charges what the rows say."])
    lines = counted(f"Events from {report['since']} to {report['through']}:", report["events"] or {"any": {}})
    if report["objects"] is not None:
        lines += counted("Objects:", report["objects"])
    lines += [
        f"Missing events applied: {report['events_missing']}. "
        f"Objects repaired: {report['objects_repaired']}. "
        f"Stored events applied at last: {report['events_retried_with_success']}.",
        f"Second subscriptions settled: {report['second_subscriptions'].get('settled', 0)}. "
        f"E-mail addresses told: {report['emails_told']}.",
        f"Left: {report['events_still_failed']} failed, {report['events_still_quarantined']} quarantined.",
    ]
    return "\n".join(lines + left)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status. An error is one sentence on stderr."""
    arguments = parser().parse_args(argv)
    if not 1 <= arguments.days <= 3650:
        print("scripts/reconcile: --days is a whole number from 1 to 3650.", file=sys.stderr)
        return 2
    if bool(arguments.dismiss) != bool(arguments.why):
        print("scripts/reconcile: --dismiss ID and --why TEXT go together.", file=sys.stderr)
        return 2
    try:
        if arguments.stack:
            os.environ.update(Stack(ROOT, arguments.stack).gateway_settings().function_environment())
        if arguments.dismiss:
            report = asyncio.run(dismiss(arguments.dismiss, arguments.why))
        elif arguments.check_prices:
            report = asyncio.run(run(prices_only()))
        else:
            report = asyncio.run(run(reconcile(Options(arguments.sweep, arguments.days))))
    except (FunctionError, StackError) as error:
        print(f"scripts/reconcile: {error}", file=sys.stderr)
        return 1
    except stripe.StripeError as error:
        print(f"scripts/reconcile: {stripe_api.failure(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; run it again, nothing is lost.", file=sys.stderr)
        return 130
    print(json.dumps(report, indent=2) if arguments.json else summary(report))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
