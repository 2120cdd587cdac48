"""What a checkout refuses or passes on: limits, free sessions, freezes, taxes; customers that are gone."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from scripts.local.stripe.control import Control
from supabase import Client
from tests.support.functions import PAGES, Buy, balance, post
from tests.support.stack import Env, User

Connection = psycopg.Connection[Any]
HOME = {"return_url": PAGES["cancel_url"]}


@pytest.fixture
def portal(url: Callable[[str], str], env: Env) -> Buy:
    """Asks for the billing portal as a user."""
    return lambda user, **body: post(url("billing-portal"), {**HOME, **body}, **user.headers(env))


@contextmanager
def settings(db: Connection, **values: Any) -> Iterator[None]:
    """Other settings for a while."""
    names = list(values)
    before = db.execute(f"select {', '.join(names)} from credits.billing_settings").fetchone()
    assert before
    change = "update credits.billing_settings set " + ", ".join(f"{name} = %s" for name in names)
    db.execute(change, list(values.values()))
    try:
        yield
    finally:
        db.execute(change, before)


def customers(env: Env, user: User) -> list[str]:
    """The user's customers that Stripe has."""
    return [customer.id for customer in env.stripe().v1.customers.list({"email": user.email}).data]


def sessions(control: Control, user_id: str) -> int:
    """How many checkout sessions Stripe made for an account."""
    return len(
        [
            entry for entry in control.requests()
            if (entry["method"], entry["path"], entry["status"]) == ("POST", "/v1/checkout/sessions", 200)
            and entry["params"].get("client_reference_id") == user_id
        ]
    )  # fmt: skip


def account_of(user: User) -> str:
    rows: Any = user.client.table("credit_accounts").select("id").execute().data
    return str(rows[0]["id"])


# -- limits ----------------------------------------------------------------------------------------


def test_checkouts_in_a_minute(
    user: Callable[..., User], buy: Buy, portal: Buy, db: Connection, control: Control
) -> None:
    ann, bob = user(), user()
    db.execute("delete from credits.call_rates where call = 'checkout'")
    with settings(db, max_checkouts_per_minute=5):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: buy(ann, package="starter"), range(12)))
        # The minute may change on the way.
        fine = [answer for answer in answers if answer.status_code == 200]
        assert 5 <= len(fine) <= 10
        assert sessions(control, account_of(ann)) == len(fine)
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {answer.status_code for answer in refused} == {429}
        for answer in refused:
            assert answer.json()["code"] == "PT429"
            assert '"limit": 5' in answer.json()["details"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        db.execute("update credits.call_rates set calls = 5, minute = date_trunc('minute', credits.now())")
        assert portal(ann).status_code == 429  # opens pages of Stripe's, too
        assert buy(bob, package="starter").status_code == 200
        db.execute("update credits.call_rates set minute = minute - interval '1 minute'")
        assert buy(ann, package="starter").status_code == 200


def test_a_frozen_account(user: Callable[..., User], buy: Buy, plan: str, service: Client) -> None:
    ann = user()
    service.rpc("freeze_account", {"user_id": ann.id, "reason": "A test."}).execute()
    for body in ({"package": "starter"}, {"plan": plan}):
        answer = buy(ann, **body)
        assert (answer.status_code, answer.json()["code"]) == (403, "PT403")
        assert "frozen" in answer.json()["message"]
    service.rpc("unfreeze_account", {"user_id": ann.id}).execute()
    assert buy(ann, package="starter").status_code == 200


def test_for_subscribers_only(
    user: Callable[..., User], buy: Buy, plan: str, control: Control, db: Connection
) -> None:
    ann = user()
    db.execute("update public.credit_packages set subscribers_only = true where slug = 'pro'")
    try:
        answer = buy(ann, package="pro")
        assert (answer.status_code, answer.json()["code"]) == (403, "PT403")
        assert "subscribers" in answer.json()["message"]
        control.complete(buy(ann, plan=plan).json()["id"])
        control.settled()
        assert buy(ann, package="pro").status_code == 200
    finally:
        db.execute("update public.credit_packages set subscribers_only = false where slug = 'pro'")


def test_nothing_to_pay(
    user: Callable[..., User], buy: Buy, env: Env, control: Control, db: Connection
) -> None:
    """A promotion code of 100 percent brings one package, whatever the quantity."""
    ann, code = user(), f"FREE-{uuid.uuid4().hex[:8]}"
    before = balance(ann)
    coupon = env.stripe().v1.coupons.create({"percent_off": 100, "duration": "once"})
    env.stripe().v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "code": code}
    )
    closed = buy(ann, package="enterprise").json()["id"]
    assert env.stripe().v1.checkout.sessions.retrieve(closed).allow_promotion_codes is False
    with settings(db, allow_promotion_codes=True):
        control.complete(buy(ann, package="enterprise", quantity=10).json()["id"], code=code)
        control.settled()
        assert balance(ann) == before + 2000
        with settings(db, max_free_packages=3):
            control.complete(buy(ann, package="starter", quantity=10).json()["id"], code=code)
            control.complete(buy(ann, package="starter", quantity=2).json()["id"], code=code)
            control.settled()
    assert balance(ann) == before + 2000 + (3 + 2) * 50
    rows: Any = ann.client.table("purchases").select("credits,credits_granted,amount").order("id").execute()
    assert [(row["credits"], row["credits_granted"], row["amount"]) for row in rows.data] == [
        (2000, 2000, 0), (150, 150, 0), (100, 100, 0),
    ]  # fmt: skip


def test_taxes(user: Callable[..., User], buy: Buy, env: Env, db: Connection, plan: str) -> None:
    ann = user()
    with settings(db, automatic_tax=True, tax_id_collection=True, billing_address_collection="required"):
        for body in ({"package": "starter"}, {"plan": plan}):
            answer = buy(ann, **body)
            assert answer.status_code == 200, answer.text
            session = env.stripe().v1.checkout.sessions.retrieve(answer.json()["id"])
            assert session.automatic_tax.enabled is True
            assert session.tax_id_collection and session.tax_id_collection.enabled is True
            assert session.billing_address_collection == "required"
    session = env.stripe().v1.checkout.sessions.retrieve(buy(ann, package="starter").json()["id"])
    assert session.automatic_tax.enabled is False


# -- customers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "lost"])
def test_a_customer_that_was_deleted(
    heard: bool, user: Callable[..., User], buy: Buy, portal: Buy, env: Env, control: Control, plan: str
) -> None:
    ann = user()
    seen = []
    for wish in ({"package": "starter"}, {"package": "pro"}, {"plan": plan}):
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _, wish=wish: buy(ann, **wish), range(3)))
        assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers]
        (customer,) = customers(env, ann)
        assert customer not in seen
        seen.append(customer)
        last = env.stripe().v1.checkout.sessions.retrieve(answers[0].json()["id"])
        assert last.customer == customer
        control.delivery("normal" if heard else "drop")
        env.stripe().v1.customers.delete(customer)
        control.settled()
    answer = portal(ann)
    assert (answer.status_code, answer.json()["code"]) == (404, "PT404")
    assert portal(ann).status_code == 404
    control.delivery("normal")
    assert buy(ann, package="starter").status_code == 200
    assert portal(ann).status_code == 200


def test_a_key_outlives_its_customer(
    user: Callable[..., User], url: Callable[[str], str], env: Env, control: Control
) -> None:
    ann = user()
    headers = {**ann.headers(env), "Idempotency-Key": "order 1"}
    body = {"package": "starter", **PAGES}
    first = post(url("checkout"), body, **headers)
    env.stripe().v1.customers.delete(customers(env, ann)[0])
    control.settled()
    second = post(url("checkout"), body, **headers)
    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert first.json()["id"] != second.json()["id"]
    assert post(url("checkout"), body, **headers).json() == second.json()


def test_stripe_follows_the_email_address(
    user: Callable[..., User], buy: Buy, portal: Buy, env: Env, service: Client, control: Control
) -> None:
    ann = user()
    assert buy(ann, package="starter").status_code == 200
    (customer,) = customers(env, ann)
    asks: list[Callable[[], httpx.Response]] = [lambda: buy(ann, package="starter"), lambda: portal(ann)]
    for ask in asks:
        address = f"new-{uuid.uuid4().hex}@example.com"
        service.auth.admin.update_user_by_id(ann.id, {"email": address})
        assert ask().status_code == 200
        assert env.stripe().v1.customers.retrieve(customer).email == address
        before = len(control.requests())
        assert ask().status_code == 200
        updates = [entry for entry in control.requests()[before:] if entry["path"].endswith(customer)]
        assert updates == []  # told once


# -- portal ----------------------------------------------------------------------------------------


def test_portal_flows(
    user: Callable[..., User], buy: Buy, portal: Buy, env: Env, control: Control, plan: str
) -> None:
    ann, bob = user(), user()
    assert buy(ann, package="starter").status_code == 200
    assert portal(ann, flow="payment_method").status_code == 200
    for flow in ("cancel", "change"):
        answer = portal(ann, flow=flow)
        assert (answer.status_code, answer.json()["code"]) == (404, "PT404")
    assert portal(bob, flow="cancel").status_code == 404
    subscription = control.complete(buy(ann, plan=plan).json()["id"])["subscription"]
    control.settled()
    for flow, kind in (("cancel", "subscription_cancel"), ("change", "subscription_update")):
        answer = portal(ann, flow=flow)
        assert (answer.status_code, set(answer.json())) == (200, {"url"}), answer.text
        params = control.requests()[-1]["params"]
        assert params["flow_data"] == {
            "type": kind, kind: {"subscription": subscription},
            "after_completion": {"type": "redirect", "redirect": {"return_url": HOME["return_url"]}},
        }  # fmt: skip
    env.stripe().v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
    control.settled()
    answer = portal(ann, flow="cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "PT409")
    assert portal(ann, flow="change").status_code == 200
    for wrong in ("", "pay", "subscription_cancel"):
        answer = portal(ann, flow=wrong)
        assert (answer.status_code, answer.json()["code"]) == (400, "PT400")
    assert portal(ann, flow=5).status_code == 400
    assert portal(ann, flow={"type": "cancel"}).status_code == 400


# -- receipts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("charge_first", [True, False])
def test_links_to_receipts_and_invoices(
    charge_first: bool, user: Callable[..., User], buy: Buy, env: Env, control: Control, plan: str
) -> None:
    ann = user()
    control.delivery("hold")
    session = control.complete(buy(ann, package="starter").json()["id"])
    order = ["charge.succeeded", "checkout.session.completed"]
    for kind in order if charge_first else order[::-1]:
        control.deliver(types=[kind])
    control.delivery("normal")
    (row,) = purchases(ann)
    charge = env.stripe().v1.charges.list({"payment_intent": session["payment_intent"]}).data[0]
    assert (row["receipt_url"], row["hosted_invoice_url"]) == (charge.receipt_url, None)
    trial = control.complete(buy(ann, plan=plan).json()["id"])
    control.settled()
    invoice = env.stripe().v1.invoices.retrieve(trial["invoice"])
    assert purchases(ann)[1]["hosted_invoice_url"] == invoice.hosted_invoice_url is not None


def purchases(user: User) -> list[dict[str, Any]]:
    """The user's purchases."""
    rows: Any = user.client.table("purchases").select("*").order("id").execute().data
    return list(rows)
