"""What the users of a release have in their database, made through that release's own RPCs, and gone on with.

    python -m tests.upgrade.life

reads steps from stdin, one JSON array per line:

    ["begin", DB_URL]           gives what was begun
    ["go_on", DB_URL, BEGUN]    goes on with it; fails where it is not as it must be
    ["check", DB_URL]           gives what the ledger finds wrong, as a list

and prints a line for each, {"gave": ...} or {"failed": text}. test_upgrade.py runs this from the checkout
of a release and from the one that comes after it. Whatever a release adds for users to have is to be begun
here and gone on with.
"""

import json
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tests.support.ledger import Ledger
from tests.support.messages import Contract, Sale
from tests.support.stack import ROOT
from tests.support.studio import Studio
from tests.support.till import Till

Begun = dict[str, Any]


def begin(ledger: Ledger) -> Begun:
    """Users with something of each kind: settled and not, open and closed, paid and taken back."""
    studio, till = Studio(ledger), Till(ledger)
    ledger.rows((ROOT / "supabase" / "seed.sql").read_text())
    ledger.rows("update credits.billing_settings set max_generations_in_flight = 7")
    operation = studio.operation(price=5, cost="0.01")

    # Ann buys, spends, holds and generates.
    ann, account = till.buyer()
    sale, refunded = Sale(account, credits=100), Sale(account, credits=30)
    till.tell([*sale.completed(), *refunded.completed(), *refunded.refund(500)])
    ledger.as_service("grant_credits", user_id=ann, amount=7, source="promo",
                      expires_at=(datetime.now(UTC) + timedelta(days=30)).isoformat())  # fmt: skip
    spend = ledger.as_user(ann, "consume_credits", operation=operation, idempotency_key="spend", quantity=2)
    captured, released, kept = (
        ledger.as_user(ann, "hold_credits", operation=operation, idempotency_key=key) for key in "abc"
    )
    _capture(ledger, captured)
    _release(ledger, released)
    studio.finish(studio.dispatched(ann, operation), "succeeded", 1)
    studio.finish(studio.dispatched(ann, operation), "failed")
    running = studio.dispatched(ann, operation)
    _maintain(ledger)
    # These are not settled yet.
    _refund(ledger, ledger.as_user(ann, "consume_credits", operation=operation), 2)
    ledger.as_user(ann, "consume_credits", operation=operation)

    # Bob and Cleo subscribe; Fay is frozen; Eve has spent what was paid back, and is gone.
    bob, account = till.buyer()
    month = Contract(account, till.plan(50, 500), datetime.now(UTC))
    year = till.plan(600, 5000, interval="year", monthly_allotment=True)
    till.tell(month.begin())
    cleo, account = till.buyer()
    till.tell(Contract(account, year, datetime.now(UTC), month=timedelta(days=365)).begin())
    _, account = till.buyer()
    contested = Sale(account, credits=20)
    till.tell([*contested.completed(), *contested.dispute("needs_response")])
    eve, account = till.buyer()
    lost = Sale(account, credits=40)
    till.tell(lost.completed())
    ledger.as_user(eve, "consume_credits", operation=operation, quantity=9)
    till.tell(lost.refund(1000))
    ledger.rows("delete from auth.users where id = %s", eve)
    return {
        "operation": operation, "ann": ann, "bob": bob, "cleo": cleo, "spend": spend, "kept": kept,
        "running": running, "balance": till.balance(ann), "payment": sale.payment,
    }  # fmt: skip


def go_on(ledger: Ledger, begun: Begun) -> None:
    """Ann's keys are known, her hold and job end, her spend and purchase are refunded; others come."""
    studio, till = Studio(ledger), Till(ledger)
    ann, operation, balance = begun["ann"], begun["operation"], begun["balance"]
    again = ledger.as_user(ann, "consume_credits", operation=operation, idempotency_key="spend", quantity=2)
    assert (again["id"], again["amount"]) == (begun["spend"]["id"], -10)
    hold = ledger.as_user(ann, "hold_credits", operation=operation, idempotency_key="c")
    assert hold["id"] == begun["kept"]["id"]
    assert _capture(ledger, hold)["amount"] == -5
    assert studio.finish(begun["running"], "succeeded", 1)["credits_charged"] == 5
    assert _refund(ledger, begun["spend"], 4)["amount"] == 4
    assert till.balance(ann) == balance - 6
    history = ledger.read_as_user(
        ann, "select jsonb_agg(t order by t.id) from public.credit_transactions as t"
    )
    assert (history[-1]["balance_after"], len(history) > 8) == (balance - 6, True)

    sale = Sale(str(ledger.account(ann)["id"]), credits=100, payment=begun["payment"])
    till.tell(sale.refund(250))
    assert till.balance(ann) == balance - 31
    assert ledger.account(begun["bob"])["balance"] == 60
    assert ledger.account(begun["cleo"])["balance"] == 60

    dan = studio.buyer(20)
    assert ledger.as_user(dan, "consume_credits", operation=operation)["balance_after"] == 25


def check(ledger: Ledger) -> list[str]:
    """What is wrong, before and after all is settled."""
    found = _wrong(ledger)
    _maintain(ledger)
    return found + _wrong(ledger)


def _wrong(ledger: Ledger) -> list[str]:
    rows = [
        *ledger.rows(
            "select 'verify_ledger' as said, to_jsonb(v)::text as what from public.verify_ledger() as v"
        ),
        *ledger.rows(
            "select 'maintenance' as said, to_jsonb(r)::text as what from public.maintenance_report() as r"
        ),
    ]
    return [f"{row['said']}: {row['what']}" for row in rows]


def _maintain(ledger: Ledger) -> None:
    while ledger.value("select credits.run_maintenance()")["more"]:
        pass


def _capture(ledger: Ledger, hold: Begun) -> Begun:
    row: Begun = ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    return row


def _release(ledger: Ledger, hold: Begun) -> None:
    ledger.as_service("release_hold", account_id=hold["account_id"], hold_id=hold["id"])


def _refund(ledger: Ledger, spend: Begun, amount: int) -> Begun:
    row: Begun = ledger.as_service(
        "refund", account_id=spend["account_id"], transaction_id=spend["id"], amount=amount
    )
    return row


STEPS: dict[str, Callable[..., Any]] = {"begin": begin, "go_on": go_on, "check": check}


def do(step: str, url: str, *begun: Begun) -> Any:
    """One step, with a connection of its own."""
    with Ledger(psycopg.connect(url, autocommit=True)) as ledger:
        return STEPS[step](ledger, *begun)


def main() -> None:
    """Do the steps as they come."""
    for line in sys.stdin:
        try:
            answer = {"gave": do(*json.loads(line))}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
