"""Making up for webhooks that never came."""

import json
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from scripts.local_stack import Stack
from scripts.local_stripe.control import Control
from tests.conftest import ROOT, Env, User

from .conftest import Served, another, balance, deliver, ledger, post

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
    report = reconcile(sweep=True)
    assert report["objects_repaired"] == 0
    assert balance(ann) == before + 50


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
    before = ledger(db)
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
    assert ledger(db) == before


def test_missing_settings(serve: Callable[..., Served], env: Env) -> None:
    served = serve("stripe-reconcile", STRIPE_SECRET_KEY=None)
    answer = post(served.url, apikey=env.secret_key)
    assert (answer.status_code, answer.json()["code"]) == (500, "PT500")
    assert "STRIPE_SECRET_KEY" in answer.json()["message"]
