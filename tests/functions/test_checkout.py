"""Opening a Checkout session: what it says to Stripe, and what it refuses."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from scripts.local.stripe.control import Control
from tests.support.functions import PAGES, Buy, balance, post
from tests.support.served import Served
from tests.support.stack import Env, User


def asked(control: Control, path: str) -> list[dict[str, Any]]:
    """The parameters of the requests that Stripe got on that path."""
    return [
        request["params"]
        for request in control.requests()
        if (request["method"], request["path"]) == ("POST", path)
    ]


def account_of(user: User) -> str:
    rows = user.client.table("credit_accounts").select("id").execute().data
    return str(rows[0]["id"])  # type: ignore[index, call-overload]


def test_a_package(user: Callable[..., User], buy: Buy, env: Env, control: Control) -> None:
    ann = user()
    before = balance(ann)
    answer = buy(ann, package="popular", quantity=2)
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "url"}
    session = env.stripe().v1.checkout.sessions.retrieve(answer.json()["id"])
    assert session.url == answer.json()["url"]
    assert (session.mode, session.amount_total, session.currency) == ("payment", 2 * 1799, "usd")
    assert session.client_reference_id == account_of(ann)
    assert session.success_url == PAGES["success_url"]  # {CHECKOUT_SESSION_ID} is Stripe's to fill in
    assert session.allow_promotion_codes is False  # a setting
    params = asked(control, "/v1/checkout/sessions")[-1]
    assert params["payment_intent_data"]["metadata"] == params["metadata"]
    assert params["metadata"]["account_id"] == account_of(ann)
    assert params["metadata"]["package"] == "popular"
    customer = env.stripe().v1.customers.retrieve(str(session.customer))
    assert (customer.email, customer.metadata["account_id"]) == (ann.email, account_of(ann))  # type: ignore[index]
    control.complete(session.id)
    control.settled()
    assert balance(ann) == before + 400


def test_a_plan(user: Callable[..., User], buy: Buy, env: Env, control: Control, plan: str) -> None:
    ann = user()
    answer = buy(ann, plan=plan)
    assert answer.status_code == 200, answer.text
    params = asked(control, "/v1/checkout/sessions")[-1]
    assert params["mode"] == "subscription"
    assert params["subscription_data"]["metadata"] == params["metadata"]
    assert int(params["subscription_data"]["trial_period_days"]) == 7
    assert "payment_intent_data" not in params
    assert params["metadata"]["plan"] == plan
    control.complete(answer.json()["id"])
    control.settled()
    again = buy(ann, plan=plan)
    assert (again.status_code, again.json()["code"]) == (409, "PT409")
    assert again.json()["hint"]


def test_one_customer_an_account(user: Callable[..., User], buy: Buy, env: Env, control: Control) -> None:
    ann, bob = user(), user()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: buy(ann, package="starter"), range(6)))
    sessions = [env.stripe().v1.checkout.sessions.retrieve(answer.json()["id"]) for answer in answers]
    customers = {session.customer for session in sessions}
    assert len(customers) == 1
    assert len({session.id for session in sessions}) == 6
    made = [
        params
        for params in asked(control, "/v1/customers")
        if params.get("metadata", {}).get("account_id") == account_of(ann)
    ]
    listed = env.stripe().v1.customers.list({"email": ann.email}).data
    assert made
    assert [customer.id for customer in listed] == list(customers)
    other = env.stripe().v1.checkout.sessions.retrieve(buy(bob, package="starter").json()["id"])
    assert other.customer not in customers


def test_the_price_is_ours(user: Callable[..., User], buy: Buy, control: Control) -> None:
    ann = user()
    before = len(control.requests())
    for body, status, code in (
        ({"package": "starter", "unit_amount": 1}, 400, "PT400"),
        ({"package": "starter", "account_id": str(uuid.uuid4())}, 400, "PT400"),
        ({"package": "starter", "line_item": {}}, 400, "PT400"),
        ({"package": "no-such"}, 404, "PT404"),
        ({"plan": "no-such"}, 404, "PT404"),
        ({}, 400, "PT400"),
        ({"package": "starter", "plan": "starter"}, 400, "PT400"),
        ({"package": "starter", "currency": "xxx"}, 404, "PT404"),
        ({"package": "starter", "quantity": 0}, 400, "PT400"),
        ({"package": "starter", "quantity": -1}, 400, "PT400"),
        ({"package": "starter", "quantity": 1.5}, 400, "22P02"),
        ({"package": "starter", "quantity": "many"}, 400, "22P02"),
        ({"package": "starter", "quantity": True}, 400, "22P02"),
        ({"package": "starter", "quantity": 10**12}, 400, "22003"),
        ({"package": "starter\u0000"}, 400, "22P05"),
        ({"package": ["starter"]}, 404, "PT404"),
    ):
        answer = buy(ann, **body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (body, answer.text)
    assert len(control.requests()) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"package": "\xff"}',
        b'{"package": "\\ud800"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
    ids=lambda body: body[:12],
)
def test_bodies_that_are_no_order(
    body: bytes, user: Callable[..., User], url: Callable[[str], str], env: Env
) -> None:
    answer = httpx.post(url("checkout"), content=body, headers=user().headers(env))
    assert (answer.status_code, set(answer.json())) == (400, {"message", "error", "code"})


def test_a_body_that_is_too_large(user: Callable[..., User], buy: Buy) -> None:
    assert buy(user(), package="x" * 70_000).status_code == 413


ELSEWHERE: list[Any] = [
    None, 5, "", [], {}, "/thanks", "//localhost:3000/", "localhost:3000", "thanks", "javascript:alert(1)",
    "javascript://localhost:3000/%0aalert(1)", "data:text/html,x", "ftp://localhost:3000/", "file:///etc/passwd",
    "https://localhost:3000/", "http://localhost/", "http://localhost:3001/", "http://localhost:03000x/",
    "http://localhost:3000@evil.example/", "http://localhost:3000:x@evil.example/", "http://evil.example",
    "http://user@localhost:3000/", "http://user:word@localhost:3000/", "http://@localhost:3000/",
    "http://localhost:3000.evil.example/", "http://evil.example/localhost:3000", "http://xlocalhost:3000/",
    "http://evil.example#http://localhost:3000/", "http://evil.example?http://localhost:3000/",
    "http://evil.example\\@localhost:3000/", "http://localhost:3000\\@evil.example/", "http:\\\\evil.example",
    "http:///localhost:3000/", "http:localhost:3000/", "http:/localhost:3000/", "http://localhost:3000\t.evil.example",
    " http://localhost:3000/", "http://localhost:3000/ ", "http://localhost:3000/\n", "http://localhost:3000/\u0000",
    "http://localhost\u3002evil.example:3000/", "http://localhost:3000/\u00e4", "http://\u24d4vil.example/",
    "http://localhost:99999/", "http://localhost:-1/", "http://[::1]:3000/", "http://[localhost]:3000/", "http://[",
    "http://127.0.0.1:3001/", "http://2130706433:3000/", "http://localhost.:3000/", "http://%6cocalhost:3000/",
    "http://localhost:3000/" + "x" * 2100,
]  # fmt: skip


def test_redirects_to_elsewhere(
    user: Callable[..., User], url: Callable[[str], str], env: Env, control: Control
) -> None:
    ann = user()
    before = len(control.requests())
    good = PAGES["cancel_url"]
    for target in ELSEWHERE:
        for function, body, field in (
            ("checkout", {"package": "starter", "success_url": target, "cancel_url": good}, "success_url"),
            ("checkout", {"package": "starter", "success_url": good, "cancel_url": target}, "cancel_url"),
            ("billing-portal", {"return_url": target}, "return_url"),
        ):
            answer = post(url(function), body, **ann.headers(env))
            assert (answer.status_code, answer.json()["code"]) == (400, "PT400"), (target, answer.text)
            assert field in answer.json()["message"]
            assert "evil" not in answer.text
    assert len(control.requests()) == before


def test_redirects_home(user: Callable[..., User], buy: Buy) -> None:
    ann = user()
    for target in (
        "http://localhost:3000", "http://LOCALHOST:3000/", "http://localhost:3000/a/../b?c=d#e",
        "http://localhost:3000/?next=http://evil.example/@", "http://127.0.0.1:3000/{CHECKOUT_SESSION_ID}",
    ):  # fmt: skip
        assert buy(ann, package="starter", success_url=target).status_code == 200, target


def test_the_same_idempotency_key(user: Callable[..., User], buy: Buy) -> None:
    ann, bob = user(), user()
    first = buy(ann, key="order 1", package="starter")
    assert first.status_code == 200
    assert buy(ann, key="order 1", package="starter").json() == first.json()
    other = buy(ann, key="order 1", package="popular")
    assert (other.status_code, other.json()["code"]) == (409, "PT409")
    assert buy(ann, key="order 2", package="starter").json()["id"] != first.json()["id"]
    assert buy(ann, package="starter").json()["id"] != first.json()["id"]
    # Another account's key is another key.
    assert buy(bob, key="order 1", package="popular").status_code == 200
    for key in ("", "x" * 256):
        assert buy(ann, key=key, package="starter").status_code == 400
    assert buy(ann, key="x" * 255, package="starter").status_code == 200


def test_stripe_in_trouble(user: Callable[..., User], buy: Buy, control: Control) -> None:
    ann = user()
    assert buy(ann, package="starter").status_code == 200  # from here on there is a customer
    control.trouble(1, status=429)
    answer = buy(ann, package="starter")
    assert (answer.status_code, answer.json()["code"]) == (503, "PT503")
    assert int(answer.headers["retry-after"]) > 0
    # One failure is tried again within the call, and makes one session.
    sessions = len(asked(control, "/v1/checkout/sessions"))
    control.trouble(1, status=500, after=True)
    assert buy(ann, package="starter").status_code in (200, 503)
    keys = {
        request["idempotency_key"]
        for request in control.requests()
        if request["path"] == "/v1/checkout/sessions"
    }
    assert len(keys) <= sessions + 1
    control.trouble(3, status=503)
    assert buy(ann, package="starter").status_code == 503
    control.trouble(0)
    control.trouble(1, status=402)
    assert buy(ann, package="starter").status_code == 502


def test_stripe_is_away_or_refuses_us(
    user: Callable[..., User],
    serve: Callable[..., Served],
    closed_port: str,
    env: Env,
    function_environment: dict[str, str],
) -> None:
    ann = user()
    away = serve("checkout", STRIPE_API_BASE=closed_port)
    key = "sk_test_wrong_" + uuid.uuid4().hex
    refused = serve("checkout", STRIPE_SECRET_KEY=key)
    unset = serve("checkout", STRIPE_SECRET_KEY=None, ALLOWED_REDIRECT_ORIGINS=None)
    order = {"package": "starter", **PAGES}
    answers = {served.url: post(served.url, order, **ann.headers(env)) for served in (away, refused, unset)}
    assert answers[away.url].status_code == 503
    assert answers[away.url].headers["retry-after"]
    assert (answers[refused.url].status_code, answers[refused.url].json()["code"]) == (502, "PT502")
    assert answers[unset.url].status_code == 500
    assert "ALLOWED_REDIRECT_ORIGINS" in answers[unset.url].json()["message"]
    for served in (away, refused, unset):
        told = served.log() + answers[served.url].text
        for secret in (key, ann.token, ann.email, *function_environment.values()):
            if len(secret) > 20 and not secret.startswith("http"):
                assert secret not in told
    assert "STRIPE_SECRET_KEY" in answers[refused.url].text


def test_billing_portal(user: Callable[..., User], buy: Buy, url: Callable[[str], str], env: Env) -> None:
    ann = user()
    home = {"return_url": PAGES["cancel_url"]}
    answer = post(url("billing-portal"), home, **ann.headers(env))
    assert (answer.status_code, answer.json()["code"]) == (404, "PT404")
    assert answer.json()["hint"]
    assert buy(ann, package="starter").status_code == 200
    answer = post(url("billing-portal"), home, **ann.headers(env))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"url"}
    assert httpx.get(answer.json()["url"]).status_code == 200
    assert post(url("billing-portal"), {**home, "customer": "cus_1"}, **ann.headers(env)).status_code == 400
