"""Making up for webhooks that never came."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import stripe
from postgrest.exceptions import APIError

from _shared.payments import reconcile as reconciling
from scripts.local.stack import Stack
from scripts.local.stripe.control import Control
from supabase import Client
from tests.support.functions import another, balance, deliver, ledger_figures, post
from tests.support.served import Served
from tests.support.stack import ROOT, Env, User

Connection = psycopg.Connection[Any]
Buyer = Callable[..., tuple[User, str]]
Reconcile = Callable[..., dict[str, Any]]


@pytest.fixture
def clean(db: Connection) -> Iterator[None]:
    """Start where Stripe's events begin, with nothing left over from other tests."""
    db.execute("delete from credits.stripe_events where status in ('failed', 'quarantined')")
    db.execute("update credits.stripe_progress set events_through = null, swept_at = null")
    yield
    db.execute("delete from credits.stripe_events where status in ('failed', 'quarantined')")


@pytest.fixture
def reconcile(url: Callable[[str], str], env: Env, clean: None) -> Reconcile:
    """A function that runs it and returns the last line."""

    def run(**body: Any) -> dict[str, Any]:
        answer = post(url("stripe-reconcile"), body, apikey=env.secret_key)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert all("progress" in line for line in lines[:-1])
        last: dict[str, Any] = lines[-1]
        return last.get("report", last)  # type: ignore[no-any-return]

    return run


def test_dropped_webhooks(reconcile: Reconcile, buyer: Buyer, control: Control, env: Env) -> None:
    control.delivery("drop")
    ann, paid = buyer()
    bob, abandoned = buyer("popular")
    cleo, refunded = buyer("pro")
    before = [balance(user) for user in (ann, bob, cleo)]
    control.complete(paid)
    control.expire(abandoned)
    control.complete(refunded)
    payment = env.stripe().v1.checkout.sessions.retrieve(refunded).payment_intent
    env.stripe().v1.refunds.create({"payment_intent": str(payment)})
    report = reconcile()
    assert report["ok"], report
    assert report["events_missing"] >= 4
    assert report["events"]["checkout.session.completed"]["applied"] >= 2
    assert [balance(user) for user in (ann, bob, cleo)] == [before[0] + 50, before[1], before[2]]
    again = reconcile()
    assert again["ok"]
    assert (again["events_missing"], again["objects_repaired"]) == (0, 0)
    assert again["events"]["checkout.session.completed"]["duplicate"] >= 2
    assert [balance(user) for user in (ann, bob, cleo)] == [before[0] + 50, before[1], before[2]]


def test_what_events_no_longer_tell(
    reconcile: Reconcile, buyer: Buyer, control: Control, db: Connection
) -> None:
    """Stripe lists events for 30 days only; the objects stay."""
    control.delivery("drop")
    ann, session = buyer()
    before = balance(ann)
    control.complete(session)
    # As if the events were read already: the overlap is an hour.
    db.execute(
        "update credits.stripe_progress set events_through = now() + interval '400 days', swept_at = now()"
    )
    report = reconcile()
    assert (report["objects"], balance(ann)) == (None, before)  # swept today
    report = reconcile(sweep=True)
    assert report["ok"], report
    assert report["objects"]["checkout.session"]["changed"] >= 1
    assert report["objects_repaired"] >= 1
    assert balance(ann) == before + 50
    (purchase,) = ann.client.table("purchases").select("receipt_url").execute().data
    assert purchase["receipt_url"]  # type: ignore[index, call-overload]
    report = reconcile(sweep=True)
    assert report["objects_repaired"] == 0
    assert balance(ann) == before + 50


def booked(db: Connection, payment: str) -> list[tuple[Any, ...]]:
    """What is known of the balance transactions of a payment."""
    return db.execute(
        "select movement::text, amount, fee, currency from credits.stripe_balance_transactions "
        "where payment_intent_id = %s order by movement",
        [payment],
    ).fetchall()


def test_what_stripe_took(
    reconcile: Reconcile, buyer: Buyer, control: Control, env: Env, db: Connection
) -> None:
    """Webhooks name it and do not tell; an hourly run asks."""
    _, session = buyer()
    payment = str(control.complete(session)["payment_intent"])
    env.stripe().v1.refunds.create({"payment_intent": payment, "amount": 99})
    control.settled()
    assert booked(db, payment) == [("payment", None, None, None), ("refund", None, None, None)]
    db.execute("update credits.stripe_progress set swept_at = now()")
    report = reconcile()
    assert report["ok"], report
    assert (report["objects"], report["fees_learned"] >= 2) == (None, True)
    assert booked(db, payment) == [("payment", 499, 44, "usd"), ("refund", -99, 0, "usd")]
    assert reconcile()["fees_learned"] == 0


def test_a_sweep_brings_what_stripe_took(
    reconcile: Reconcile, buyer: Buyer, control: Control, env: Env, db: Connection
) -> None:
    control.delivery("drop")
    _, session = buyer()
    payment = str(control.complete(session)["payment_intent"])
    env.stripe().v1.refunds.create({"payment_intent": payment, "amount": 99})
    db.execute("update credits.stripe_progress set events_through = now() + interval '400 days'")
    report = reconcile(sweep=True)
    assert report["ok"], report
    assert booked(db, payment) == [("payment", 499, 44, "usd"), ("refund", -99, 0, "usd")]
    assert reconcile(sweep=True)["objects_repaired"] == 0


def test_a_balance_transaction_that_stripe_refuses(
    reconcile: Reconcile, buyer: Buyer, control: Control, db: Connection
) -> None:
    """It is told, and what it does not know stays unknown."""
    _, session = buyer()
    payment = str(control.complete(session)["payment_intent"])
    control.settled()
    db.execute("update credits.stripe_progress set swept_at = now(), events_through = now()")
    wrong = "update credits.stripe_balance_transactions set id = %s where payment_intent_id = %s returning id"
    (found,) = db.execute(wrong, ["txn_not_there", payment]).fetchone() or ("",)
    report = reconcile()
    assert not report["ok"]
    assert {"id": found, "kind": "balance_transaction"}.items() <= report["problems"][-1].items()
    assert booked(db, payment) == [("payment", None, None, None)]
    db.execute("delete from credits.stripe_balance_transactions where id = %s", [found])


def test_once_a_day_it_sweeps(reconcile: Reconcile, db: Connection) -> None:
    assert reconcile()["objects"] is not None
    assert reconcile()["objects"] is None
    db.execute("update credits.stripe_progress set swept_at = swept_at - interval '23 hours'")
    assert reconcile()["objects"] is not None


def test_two_at_once(reconcile: Reconcile, buyer: Buyer, control: Control) -> None:
    control.delivery("drop")
    buyers = [buyer() for _ in range(3)]
    before = [balance(user) for user, _ in buyers]
    for _, session in buyers:
        control.complete(session)
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: reconcile(sweep=True), range(3)))
    assert all(report["ok"] for report in reports), reports
    assert [balance(user) for user, _ in buyers] == [had + 50 for had in before]


def test_stripe_goes_away_in_between(
    reconcile: Reconcile, buyer: Buyer, control: Control, db: Connection
) -> None:
    control.delivery("drop")
    ann, session = buyer()
    before = balance(ann)
    control.complete(session)
    control.trouble(3, status=503)
    last = reconcile()
    assert last["code"] == "PT503", last
    assert db.execute("select events_through from credits.stripe_progress").fetchone() == (None,)
    control.trouble(0)
    assert reconcile()["ok"]
    assert balance(ann) == before + 50


def test_the_database_refuses_in_between(
    reconcile: Reconcile, buyer: Buyer, control: Control, db: Connection
) -> None:
    """Nothing counts as read before all of it was stored."""
    control.delivery("drop")
    ann, session = buyer()
    before = balance(ann)
    control.complete(session)
    db.execute("revoke execute on function public.ingest_stripe_event(jsonb) from service_role")
    try:
        last = reconcile()
    finally:
        db.execute("grant execute on function public.ingest_stripe_event(jsonb) to service_role")
    assert not last["ok"]
    assert {problem["reason"] for problem in last["problems"]} == {"The database refused it (PT500)."}
    assert db.execute("select events_through from credits.stripe_progress").fetchone() == (None,)
    assert reconcile()["ok"]
    assert balance(ann) == before + 50


def test_what_a_person_has_to_look_at(
    reconcile: Reconcile,
    paid: tuple[User, dict[str, Any]],
    url: Callable[[str], str],
    env: Env,
    db: Connection,
    stack: Stack,
) -> None:
    user, event = paid
    before = balance(user)
    live = another(event, livemode=True)
    assert deliver(url("stripe-webhook"), live, env.stripe_webhook_secret).json()["status"] == "quarantined"
    db.execute("update credits.billing_settings set max_grant = 10")
    try:
        report = reconcile()
        command = [str(ROOT / "scripts" / "reconcile"), "--stack", stack.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    finally:
        db.execute("update credits.billing_settings set max_grant = 1000000000")
    assert not report["ok"]
    # A live event on a test project is nobody's to look at.
    assert (report["events_still_quarantined"], balance(user)) == (0, before)
    assert report["events_still_failed"] >= 1
    problem = next(problem for problem in report["problems"] if problem["id"] == event["id"])
    assert (problem["status"], problem["kind"]) == ("failed", "checkout.session.completed")
    assert problem["reason"]
    assert done.returncode == 1
    assert event["id"] in done.stdout
    assert "0 quarantined" in done.stdout
    assert "Reading events" in done.stderr

    db.execute("delete from credits.stripe_events where id = %s", [live["id"]])
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=60)
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["problems"]) == (0, True, [])
    assert report["events_missing"] + report["events_retried_with_success"] >= 1
    assert balance(user) == before + 50


def test_the_script_without_a_stack(closed_port: str, function_environment: dict[str, str]) -> None:
    command = [str(ROOT / "scripts" / "reconcile")]
    path = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**path, **environment},
        )

    unset = run()
    assert (unset.returncode, unset.stdout) == (1, "")
    assert "is not set" in unset.stderr
    away = run(**{**function_environment, "SUPABASE_URL": closed_port})
    assert away.returncode == 1
    assert "The database does not answer" in away.stderr
    away = run(**{**function_environment, "STRIPE_API_BASE": closed_port})
    assert away.returncode == 1
    assert "Stripe does not answer" in away.stderr
    for done in (unset, away):
        assert "Traceback" not in done.stderr
        assert function_environment["STRIPE_SECRET_KEY"] not in done.stderr
    assert run("--days", "0").returncode == 2
    assert run("--stack", "no-such-stack").returncode == 1


def test_only_the_project_itself(
    url: Callable[[str], str], env: Env, user: Callable[..., User], clean: None
) -> None:
    ann = user()
    target = url("stripe-reconcile")
    for headers in (
        {"apikey": env.secret_key},
        {"Authorization": f"Bearer {env.secret_key}"},
        {"apikey": env.service_role_key},
        {"Authorization": f"Bearer {env.service_role_key}"},
        {"apikey": env.publishable_key, "Authorization": f"Bearer {env.secret_key}"},
    ):
        assert post(target, **headers).status_code == 200
    for headers in (
        {},
        {"apikey": ""},
        {"apikey": env.publishable_key},
        {"apikey": env.anon_key},
        {"apikey": env.secret_key[:-1]},
        {"apikey": env.secret_key + "x"},
        {"apikey": "sb_secret_"},
        ann.headers(env),
        {"Authorization": f"Bearer {ann.token}"},
        {"Authorization": f"Bearer {env.anon_key}"},
        {"Authorization": f"Basic {env.secret_key}"},
        {"Authorization": env.secret_key},
        {"X-Api-Key": env.secret_key},
    ):
        answer = post(target, **headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "PT401"), headers


def test_bad_options(url: Callable[[str], str], env: Env, db: Connection) -> None:
    before = ledger_figures(db)
    for body in (
        {"days": 0},
        {"days": 1.5},
        {"days": "x"},
        {"days": True},
        {"days": 4000},
        {"sweep": 1},
        {"since": 1},
    ):
        answer = post(url("stripe-reconcile"), body, apikey=env.secret_key)
        assert (answer.status_code, answer.json()["code"]) == (400, "PT400"), body
    assert ledger_figures(db) == before


def test_missing_settings(serve: Callable[..., Served], env: Env) -> None:
    served = serve("stripe-reconcile", STRIPE_SECRET_KEY=None)
    answer = post(served.url, apikey=env.secret_key)
    assert (answer.status_code, answer.json()["code"]) == (500, "PT500")
    assert "STRIPE_SECRET_KEY" in answer.json()["message"]


def test_what_was_put_aside_is_named_until_it_is_dismissed(
    reconcile: Reconcile, paid: tuple[User, dict[str, Any]], url: Callable[[str], str], env: Env, stack: Stack
) -> None:
    """An event of long ago that nobody can apply, such as one of another project's."""
    _, event = paid
    session = {**event["data"]["object"], "id": f"cs_test_{uuid.uuid4().hex}"}
    session["metadata"] = {**session["metadata"], "account_id": str(uuid.uuid4())}
    alien = another(event, data={"object": session})
    answer = deliver(url("stripe-webhook"), alien, env.stripe_webhook_secret)
    assert answer.json()["status"] == "quarantined"
    for _ in range(2):
        report = reconcile()
        assert not report["ok"]
        (problem,) = report["problems"]
        assert (problem["id"], problem["status"]) == (alien["id"], "quarantined")
        assert problem["kind"] == "checkout.session.completed"
        assert "names no account of this project" in problem["reason"]

    command = [str(ROOT / "scripts" / "reconcile"), "--stack", stack.name]

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)

    assert run("--dismiss", alien["id"]).returncode == 2
    assert run("--why", "it is not ours").returncode == 2
    wrong = run("--dismiss", "evt_no_such", "--why", "it is not ours")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "no such event" in wrong.stderr
    done = run("--dismiss", alien["id"], "--why", "it is not ours")
    assert (done.returncode, done.stderr) == (0, "")
    assert alien["id"] in done.stdout
    report = reconcile()
    assert (report["ok"], report["problems"]) == (True, [])


def test_an_object_that_cannot_be_applied_is_dismissed_too(
    reconcile: Reconcile, env: Env, stack: Stack, control: Control, service: Client
) -> None:
    """A session of another project that shares the Stripe account: each comparison finds it."""
    control.delivery("drop")
    item = {
        "price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"name": "x"}},
        "quantity": 1,
    }
    metadata = {"account_id": str(uuid.uuid4()), "package": "starter", "credits": "50"}
    params: Any = {
        "mode": "payment",
        "line_items": [item],
        "success_url": "https://a.example",
        "metadata": metadata,
    }
    session = control.complete(env.stripe().v1.checkout.sessions.create(params).id)["id"]
    report = reconcile(sweep=True)
    problems = {problem["id"]: problem for problem in report["problems"]}
    assert session in problems
    (event,) = [problem for problem in problems if problem.startswith("evt_")]
    for problem in (session, event):
        command = [str(ROOT / "scripts" / "reconcile"), "--stack", stack.name, "--json"]
        done = subprocess.run(
            [*command, "--dismiss", problem, "--why", "another project's"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dismissed"]["id"] == problem
    report = reconcile(sweep=True)
    assert (report["ok"], report["problems"]) == (True, [])
    assert report["objects"]["checkout.session"]["ignored"] >= 1
    with pytest.raises(APIError) as refused:
        service.rpc("dismiss_stripe_object", {"object_id": session, "why": " "}).execute()
    assert refused.value.code == "PT400"


def test_prices_are_compared(reconcile: Reconcile, env: Env, db: Connection, stack: Stack) -> None:
    params: Any = {
        "product_data": {"name": "x"}, "currency": "usd", "unit_amount": 1999,
        "recurring": {"interval": "month"},
    }  # fmt: skip
    price = env.stripe().v1.prices.create(params).id
    slug = f"plan-{uuid.uuid4().hex[:8]}"
    db.execute(
        "insert into public.subscription_plans (slug, name, credits, unit_amount, stripe_price_id) "
        "values (%s, 'x', 100, 999, %s)", [slug, price],
    )  # fmt: skip
    command = [str(ROOT / "scripts" / "reconcile"), "--stack", stack.name, "--check-prices"]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    try:
        report = reconcile(sweep=True)
        assert not report["ok"]
        (problem,) = report["problems"]
        assert (problem["id"], problem["kind"]) == (price, f"plan {slug} in usd")
        assert problem["reason"] == "unit_amount is 999 here, 1999 in Stripe."
        done = run()
        assert (done.returncode, price in done.stdout) == (1, True)
        assert problem["reason"] in done.stdout
        # Who subscribed to a row that is no longer sold still pays what it says.
        db.execute("update public.subscription_plans set active = false where slug = %s", [slug])
        assert not reconcile(sweep=True)["ok"]
        db.execute("update public.subscription_plans set unit_amount = 1999 where slug = %s", [slug])
        env.stripe().v1.prices.update(price, {"active": False})
        done = run()
        assert (done.returncode, done.stdout) == (0, "Stripe charges what the rows say.\n")
    finally:
        db.execute("delete from public.subscription_plans where slug = %s", [slug])


def test_an_address_that_cannot_be_told_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def rows(rpc: str) -> list[dict[str, str]]:
        assert rpc == "stripe_emails_to_tell"
        return [
            {"account_id": "a", "customer_id": f"cus_{name}", "email": f"{name}@example.com"}
            for name in ("ann", "bob")
        ]

    async def tell(account: str, customer: str, email: str) -> None:
        if customer == "cus_ann":
            raise stripe.InvalidRequestError("Locked.", "customer")  # type: ignore[no-untyped-call]
        told.append(email)

    monkeypatch.setattr(reconciling, "service_rpc", rows)
    monkeypatch.setattr(reconciling, "tell_email", tell)
    report = reconciling.Report()
    asyncio.run(reconciling._tell_emails(report))
    assert (told, report.emails) == (["bob@example.com"], 1)
    assert [(problem["id"], problem["kind"]) for problem in report.problems] == [("cus_ann", "customer")]


def test_email_addresses_are_told(
    reconcile: Reconcile, buyer: Buyer, env: Env, service: Client, control: Control
) -> None:
    (ann, _), (bob, session) = buyer(), buyer()
    reconcile(sweep=True)
    lost = str(env.stripe().v1.checkout.sessions.retrieve(session).customer)
    address = f"new-{uuid.uuid4().hex}@example.com"
    (customer,) = env.stripe().v1.customers.list({"email": ann.email}).data
    service.auth.admin.update_user_by_id(ann.id, {"email": address})
    service.auth.admin.update_user_by_id(bob.id, {"email": "x" + address})
    control.delivery("drop")
    env.stripe().v1.customers.delete(lost)
    control.delivery("normal")
    report = reconcile(sweep=True)
    assert (report["ok"], report["emails_told"]) == (True, 1)
    assert env.stripe().v1.customers.retrieve(customer.id).email == address
    assert reconcile(sweep=True)["emails_told"] == 0
