"""What the webhook answers to each kind of event, and to whoever else comes."""

import json
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scripts.local.stripe.control import Control
from tests.support.functions import HTTP, another, balance, deliver, ledger_figures, signed
from tests.support.served import Served
from tests.support.stack import Env, User

Paid = tuple[User, dict[str, Any]]
Connection = psycopg.Connection[Any]


@pytest.fixture
def webhook(url: Callable[[str], str]) -> str:
    return url("stripe-webhook")


def test_stripe_delivers_and_credits_follow(buyer: Callable[..., tuple[User, str]], control: Control) -> None:
    user, session = buyer()
    before = balance(user)
    control.complete(session)
    deliveries = control.settled()
    assert {attempt["status"] for made in deliveries for attempt in made["attempts"]} == {200}
    assert balance(user) == before + 50


def test_applied_once(paid: Paid, webhook: str, env: Env) -> None:
    user, event = paid
    before = balance(user)
    for status in ("applied", "duplicate", "duplicate"):
        answer = deliver(webhook, event, env.stripe_webhook_secret)
        assert (answer.status_code, answer.json()) == (200, {"received": True, "status": status})
    # The same session told by another event.
    assert deliver(webhook, another(event), env.stripe_webhook_secret).json()["status"] == "applied"
    assert balance(user) == before + 50


def test_what_is_of_no_interest(paid: Paid, webhook: str, env: Env) -> None:
    event = another(paid[1], type="product.created", data={"object": {"id": "prod_1", "object": "product"}})
    answer = deliver(webhook, event, env.stripe_webhook_secret)
    assert (answer.status_code, answer.json()["status"]) == (200, "ignored")


@pytest.mark.parametrize(
    "changes",
    [
        {"livemode": True},
        {"account": "acct_somebody"},
        {"api_version": "2024-06-20"},
        {"api_version": None},
        {"api_version": 5},
    ],
    ids=str,
)
def test_quarantined(changes: dict[str, Any], paid: Paid, webhook: str, env: Env, db: Connection) -> None:
    user, event = paid
    before = balance(user)
    wrong = another(event, **changes)
    answer = deliver(webhook, wrong, env.stripe_webhook_secret)
    assert (answer.status_code, answer.json()["status"]) == (200, "quarantined")
    assert balance(user) == before
    row = db.execute(
        "delete from credits.stripe_events where id = %s returning reason", [wrong["id"]]
    ).fetchone()
    assert row and row[0]


def test_a_rule_refuses_and_stripe_tries_again(paid: Paid, webhook: str, env: Env, db: Connection) -> None:
    user, event = paid
    before = balance(user)
    db.execute("update credits.billing_settings set max_grant = 10")
    try:
        answer = deliver(webhook, event, env.stripe_webhook_secret)
    finally:
        db.execute("update credits.billing_settings set max_grant = 1000000000")
    assert (answer.status_code, answer.json()["code"]) == (500, "PT500")
    assert balance(user) == before
    assert deliver(webhook, event, env.stripe_webhook_secret).json()["status"] == "applied"
    assert balance(user) == before + 50


def test_the_database_is_away(paid: Paid, serve: Callable[..., Served], closed_port: str, env: Env) -> None:
    for changes in (
        {"SUPABASE_URL": closed_port},
        {"SUPABASE_SECRET_KEYS": '{"default": "sb_secret_wrong"}', "SUPABASE_SERVICE_ROLE_KEY": None},
    ):
        served = serve("stripe-webhook", **changes)
        answer = deliver(served.url, paid[1], env.stripe_webhook_secret)
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "PT503"
        assert answer.headers["retry-after"]
        assert "sb_secret_wrong" not in served.log() + answer.text
        # What would be refused with the database there is refused without.
        assert (
            HTTP.post(served.url, content=b"{", headers=signed(b"{", env.stripe_webhook_secret)).status_code
            == 400
        )


def test_a_secret_that_is_being_replaced(paid: Paid, serve: Callable[..., Served], env: Env) -> None:
    new = "whsec_new_one"
    served = serve(
        "stripe-webhook", STRIPE_WEBHOOK_SECRET=new, STRIPE_WEBHOOK_SECRET_PREVIOUS=env.stripe_webhook_secret
    )
    assert deliver(served.url, paid[1], env.stripe_webhook_secret).json()["status"] == "applied"
    assert deliver(served.url, paid[1], new).json()["status"] == "duplicate"
    assert deliver(served.url, paid[1], "whsec_older").status_code == 400
    # Stripe signs with both while they overlap.
    payload = json.dumps(paid[1]).encode()
    both = signed(payload, "whsec_older")["Stripe-Signature"] + "," + signed(payload, new)["Stripe-Signature"]
    assert HTTP.post(served.url, content=payload, headers={"Stripe-Signature": both}).status_code == 200
    for secret in (new, env.stripe_webhook_secret):
        assert secret not in served.log()


def test_no_secret_no_service(paid: Paid, serve: Callable[..., Served]) -> None:
    served = serve("stripe-webhook", STRIPE_WEBHOOK_SECRET=None)
    for secret in ("", "x"):
        answer = deliver(served.url, paid[1], secret)
        assert answer.status_code == 500
        assert "STRIPE_WEBHOOK_SECRET" in answer.json()["message"]


@pytest.mark.parametrize(
    ("seconds", "status"), [(-290, 200), (290, 200), (-310, 400), (310, 400), (10**9, 400)]
)
def test_300_seconds_both_ways(
    seconds: int, status: int, paid: Paid, webhook: str, env: Env, db: Connection
) -> None:
    before = ledger_figures(db)
    payload = json.dumps(paid[1]).encode()
    headers = signed(payload, env.stripe_webhook_secret, time.time() + seconds)
    assert HTTP.post(webhook, content=payload, headers=headers).status_code == status
    assert (ledger_figures(db) == before) == (status == 400)


def test_only_post(webhook: str) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE"):
        answer = HTTP.request(method, webhook)
        assert answer.status_code == 405, method
        assert "POST" in answer.headers["allow"]


def test_cors(serve: Callable[..., Served], env: Env) -> None:
    """Straight from the function: in the stack the gateway sees to these headers as well."""
    url = serve("stripe-webhook").url
    answer = HTTP.options(
        url, headers={"Origin": "https://x.example", "Access-Control-Request-Method": "POST"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "idempotency-key" in answer.headers["access-control-allow-headers"]
    for other in (answer, HTTP.post(url), HTTP.get(url), HTTP.post(url, content=b"x" * 2**21)):
        assert other.headers["access-control-allow-origin"] == "*"
        if other.content:
            assert set(other.json()) == {"message", "error", "code"}


SERVERS_OWN = ["ingest_stripe_event", "ingest_stripe_object", "retry_stripe_events", "stripe_sync"]


@pytest.mark.parametrize("path", [*SERVERS_OWN, "link_stripe_customer", "grant_credits"])
def test_nobody_but_the_server_ingests(path: str, paid: Paid, env: Env, db: Connection) -> None:
    user, event = paid
    before = ledger_figures(db)
    for headers in (
        {"apikey": env.publishable_key},
        {"apikey": env.anon_key},
        user.headers(env),
    ):
        for body in (event, {"object": event["data"]["object"]}, {}):
            answer = HTTP.post(f"{env.api_url}/rest/v1/rpc/{path}", json=body, headers=headers)
            assert answer.status_code in (401, 403, 404), answer.text
    assert ledger_figures(db) == before
