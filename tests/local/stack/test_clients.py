"""The official clients against the stack: what an app does all day."""

from collections.abc import Callable
from pathlib import Path

import pytest

from supabase import PostgrestAPIError
from tests.support.node import run_node
from tests.support.stack import Env, User


def test_supabase_py_reads_its_own_ledger(user: Callable[..., User]) -> None:
    made = user()
    rows = made.client.table("credit_transactions").select("*").order("id", desc=True).limit(5).execute()
    assert isinstance(rows.data, list)


def test_supabase_py_calls_an_rpc(user: Callable[..., User]) -> None:
    quote = user().client.rpc("quote_credits", {"operation": "dalle3_image"}).execute()
    assert isinstance(quote.data, dict)
    assert quote.data["credits"] == 10


def test_supabase_py_may_not_write_a_table(user: Callable[..., User]) -> None:
    client = user().client
    for write in (
        client.table("credit_transactions").insert({"amount": 1_000_000}),
        client.table("credit_transactions").delete().gte("id", 0),
        client.table("credit_accounts").update({"balance": 1_000_000}).gte("balance", 0),
    ):
        with pytest.raises(PostgrestAPIError) as caught:
            write.execute()
        assert caught.value.code == "42501"


def test_supabase_js_signs_in_and_calls_an_rpc(env: Env, user: Callable[..., User]) -> None:
    made = user()
    settings = {
        "API_URL": env.api_url, "PUBLISHABLE_KEY": env.publishable_key,
        "EMAIL": made.email, "PASSWORD": made.password,
    }  # fmt: skip
    seen = run_node(Path(__file__).with_name("client.mjs"), settings)
    assert seen["user"] == made.id
    assert seen["refreshed"] is True
    assert (seen["alg"], seen["sub"]) == ("ES256", made.id)
    assert seen["quote"]["credits"] == 10
    assert seen["refusedCode"] == "invalid_credentials"
    assert seen["writeRefused"] == "42501"
    assert seen["signedOut"] is True
