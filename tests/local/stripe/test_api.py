"""The API as stripe-python meets it: objects, lists, errors, idempotency."""

import concurrent.futures
import time
from typing import Any

import httpx
import pytest
import stripe

from scripts.local.stripe.control import Control
from tests.support.local_stripe import KEY, Standin, checkout, item


def test_customer_create_retrieve_update_delete(client: stripe.StripeClient) -> None:
    made = client.v1.customers.create({"email": "ann@example.com", "metadata": {"a": "1", "b": "2"}})
    changed = client.v1.customers.update(made.id, {"name": "Ann", "metadata": {"a": "", "c": "3"}})
    assert (changed.name, changed.email) == ("Ann", "ann@example.com")
    assert changed.metadata and changed.metadata.to_dict() == {"b": "2", "c": "3"}
    assert client.v1.customers.delete(made.id).deleted
    gone = client.v1.customers.retrieve(made.id)
    assert gone.deleted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.update(made.id, {"name": "Bob"})
    assert (refused.value.code, refused.value.http_status) == ("resource_missing", 404)


def test_auto_pagination_newest_first(client: stripe.StripeClient) -> None:
    email = "many@example.com"
    made = [client.v1.customers.create({"email": email}).id for _ in range(7)]
    page = client.v1.customers.list({"email": email, "limit": 3})
    assert page.has_more
    assert [customer.id for customer in page.auto_paging_iter()] == made[::-1]
    back = client.v1.customers.list({"email": email, "limit": 3, "ending_before": made[0]})
    assert [customer.id for customer in back.data] == [made[3], made[2], made[1]]
    assert back.has_more
    none = client.v1.customers.list({"email": email, "created": {"gt": 4_000_000_000}})
    assert none.data == []


@pytest.mark.parametrize(
    ("method", "path", "form", "code", "param"),
    [
        ("POST", "/v1/customers", "nonsense=1", "parameter_unknown", "nonsense"),
        ("POST", "/v1/customers", "email=not-an-email", "email_invalid", "email"),
        ("POST", "/v1/customers", "name[a]=b", None, "name"),
        ("POST", "/v1/checkout/sessions", "success_url=https://x.example", "parameter_missing", "mode"),
        ("POST", "/v1/checkout/sessions", "mode=payment&success_url=x&line_items[0][quantity]=1",
         "url_invalid", "success_url"),
        ("POST", "/v1/checkout/sessions",
         "mode=payment&success_url=https://x.example&line_items[0][price_data][currency]=usd"
         "&line_items[0][price_data][product_data][name]=A&line_items[0][quantity]=1",
         "parameter_missing", "line_items[0][price_data][unit_amount]"),
        ("POST", "/v1/checkout/sessions",
         "mode=payment&success_url=https://x.example&line_items[0][price]=price_none&line_items[0][quantity]=1",
         "resource_missing", "line_items[0][price]"),
        ("POST", "/v1/checkout/sessions",
         "mode=payment&success_url=https://x.example&line_items[0][price_data][currency]=zzz"
         "&line_items[0][price_data][unit_amount]=5&line_items[0][price_data][product_data][name]=A",
         None, "line_items[0][price_data][currency]"),
        ("POST", "/v1/refunds", "payment_intent=pi_none", "resource_missing", "payment_intent"),
        ("POST", "/v1/refunds", "payment_intent=pi_none&amount=1.5", "parameter_invalid_integer", "amount"),
        ("POST", "/v1/refunds", "payment_intent=pi_none&amount=", "parameter_invalid_integer", "amount"),
        ("GET", "/v1/customers?limit=0", "", "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers?limit=101", "", "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers?starting_after=cus_none", "", "resource_missing", "starting_after"),
        ("GET", "/v1/customers/cus_none", "", "resource_missing", "id"),
        ("GET", "/v1/events?expand[]=nonsense", "", None, "expand"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_as_stripe_does(
    standin: Standin, method: str, path: str, form: str, code: str | None, param: str
) -> None:
    if code is None and param == "expand":
        standin.client().v1.customers.create({})
    answer = httpx.request(
        method, standin.base + path, content=form or None,
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded"},
    )  # fmt: skip
    error = answer.json()["error"]
    assert answer.status_code == (404 if param == "id" else 400), error
    assert (error["type"], error.get("code"), error.get("param")) == ("invalid_request_error", code, param)


def test_a_wrong_key_and_an_unknown_endpoint(standin: Standin) -> None:
    with pytest.raises(stripe.AuthenticationError) as wrong:
        standin.client("sk_test_wrong").v1.customers.list()
    assert wrong.value.http_status == 401
    assert httpx.get(f"{standin.base}/v1/customers").status_code == 401
    answer = httpx.get(f"{standin.base}/v1/nonsense", auth=(KEY, ""))
    assert answer.status_code == 404
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Stripe-Version"] == "2026-08-26.dahlia"


def test_an_idempotency_key_answers_again_and_refuses_another_request(client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"email": "once@example.com"}, {"idempotency_key": "key-once"})
    again = client.v1.customers.create({"email": "once@example.com"}, {"idempotency_key": "key-once"})
    assert again.id == first.id
    assert again.last_response and first.last_response
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.last_response.headers
    assert again.last_response.request_id == first.last_response.request_id
    assert len(client.v1.customers.list({"email": "once@example.com"}).data) == 1
    with pytest.raises(stripe.IdempotencyError) as mismatch:
        client.v1.customers.create({"email": "other@example.com"}, {"idempotency_key": "key-once"})
    assert mismatch.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "x"}, {"idempotency_key": "key-once"})


def test_a_refusal_is_kept_with_its_key_but_not_one_of_the_form(client: stripe.StripeClient) -> None:
    for replayed in (None, "true"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.refunds.create({"charge": "ch_none"}, {"idempotency_key": "key-refused"})
        assert (refused.value.headers or {}).get("idempotent-replayed") == replayed
    bad: Any = {"email": "bad"}
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create(bad, {"idempotency_key": "key-form"})
    assert client.v1.customers.create({"email": "good@example.com"}, {"idempotency_key": "key-form"}).id


def test_a_key_in_use_by_a_request_under_way(standin: Standin, control: Control) -> None:
    control.trouble(1, seconds=0.6)

    def create() -> str:
        return standin.client().v1.customers.create({}, {"idempotency_key": "key-busy"}).id

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(create)
        time.sleep(0.3)
        # stripe-python has no class of its own for this, and tries it again when retries are on.
        with pytest.raises(stripe.APIError, match="in-progress") as busy:
            create()
        assert busy.value.http_status == 409
        assert slow.result() == create()


def test_a_lost_answer_is_found_again_by_its_key(client: stripe.StripeClient, control: Control) -> None:
    control.trouble(1, status=500, after=True)
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"email": "lost@example.com"}, {"idempotency_key": "key-lost"})
    assert len(client.v1.customers.list({"email": "lost@example.com"}).data) == 1
    # Stripe keeps the 500 with the key, also.
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"email": "lost@example.com"}, {"idempotency_key": "key-lost"})
    control.trouble(1, status=429)
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.list()


def test_expand(client: stripe.StripeClient, control: Control) -> None:
    customer = client.v1.customers.create({"email": "x@example.com"})
    session = checkout(client, customer=customer.id, line_items=[item(quantity=3)])
    control.complete(session.id)
    found = client.v1.checkout.sessions.retrieve(
        session.id, {"expand": ["payment_intent.latest_charge.balance_transaction", "line_items", "customer"]}
    )
    charge = found.payment_intent.latest_charge  # type: ignore[union-attr]
    assert (charge.balance_transaction.net, charge.amount) == (1497 - 73, 1497)  # type: ignore[union-attr]
    assert found.line_items and found.line_items.data[0].quantity == 3
    assert found.customer.email == "x@example.com"  # type: ignore[union-attr]
    listed = client.v1.checkout.sessions.list({"customer": customer.id, "expand": ["data.customer"]})
    assert listed.data[0].customer.id == customer.id  # type: ignore[union-attr]


def test_requests_are_logged(client: stripe.StripeClient, control: Control) -> None:
    last = (control.requests() or [{"seq": 0}])[-1]["seq"]
    checkout(client, metadata={"k": "v"})
    (entry,) = control.requests(after=last)
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/v1/checkout/sessions", 200)
    assert entry["params"]["line_items"][0]["price_data"]["unit_amount"] == "499"
    assert entry["params"]["metadata"] == {"k": "v"}
