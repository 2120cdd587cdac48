"""Nobody but Stripe and the project's own server can bring credits."""

from typing import Any

import pytest
from postgrest.exceptions import APIError
from supabase_functions.errors import FunctionsHttpError

from supabase import Client
from tests.support.shop import BONUS, HTTP, Buyer, Shop


@pytest.fixture
def cheat(shop: Shop) -> tuple[Buyer, dict[str, Any]]:
    """A buyer, and the event that would bring them credits: it is true, and was never delivered."""
    shop.control.delivery("drop")
    buyer = shop.buyer()
    shop.pay(buyer.checkout(package="pro"))
    return buyer, shop.control.events("checkout.session.completed")[-1]


def test_ingest_and_grant(shop: Shop, cheat: tuple[Buyer, dict[str, Any]]) -> None:
    buyer, event = cheat
    account = buyer.rows("credit_accounts")[0]["id"]
    calls: dict[str, dict[str, Any]] = {
        "ingest_stripe_event": event,
        "ingest_stripe_object": {"object": event["data"]["object"]},
        "retry_stripe_events": {},
        "stripe_sync": {"events_through": "2100-01-01"},
        "link_stripe_customer": {"account_id": account, "customer_id": "cus_1"},
        "grant_credits": {"user_id": buyer.id, "amount": 500, "source": "purchase"},
        "refund": {"account_id": account, "transaction_id": 1},
        "unfreeze_account": {"user_id": buyer.id},
    }
    strangers: list[Client] = [buyer.client, shop.env.client(), shop.env.client(shop.env.anon_key)]
    for client in strangers:
        for name, arguments in calls.items():
            with pytest.raises(APIError) as refused:
                client.rpc(name, arguments).execute()
            assert refused.value.code in ("42501", "PGRST202"), (name, refused.value)
        with pytest.raises(FunctionsHttpError) as turned_away:
            client.functions.invoke("stripe-reconcile", {"body": {}})
        assert turned_away.value.status == 401
        for table in ("purchases", "subscriptions", "credit_transactions"):
            with pytest.raises(APIError) as refused:
                client.table(table).insert({"account_id": account}).execute()
            assert refused.value.code == "42501"
    answer = HTTP.post(f"{shop.env.functions_url}/stripe-webhook", json=event, headers={
        "Authorization": f"Bearer {shop.env.secret_key}", "apikey": shop.env.secret_key})  # fmt: skip
    assert answer.status_code == 400  # a key is no signature
    assert buyer.balance() == BONUS
    # The same event from who may: it would have worked.
    shop.env.client(shop.env.secret_key).rpc("ingest_stripe_event", event).execute()
    assert buyer.balance() == BONUS + 500
