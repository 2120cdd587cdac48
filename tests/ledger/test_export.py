"""What operators take out of the ledger, and what it says of who wrote it."""

import csv
import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.support.ledger import Ledger
from tests.support.rest import HTTP, Api
from tests.support.stack import Env, User

FORMULAS = ["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", '=cmd|"/c calc"!A1', "\uff1d1"]
HARMLESS = ["order-1", "1-1", "a=b", "'quoted", 'say "hi", twice', "line\nbreak"]


def test_the_export_has_no_formulas(user: Callable[..., User], env: Env) -> None:
    me = user()
    caller = Api(env.api_url, me.headers(env))
    secret = {"apikey": env.secret_key, "Accept": "text/csv"}
    operator = Api(env.api_url, {"apikey": env.secret_key})
    operator.ok("grant_credits", user_id=me.id, amount=1000, source="promo")
    spends = {
        caller.ok(
            "consume_credits", operation="stable_diffusion", idempotency_key=key, metadata={"=x": "=1"}
        )["id"]: key
        for key in FORMULAS + HARMLESS
    }
    mine = f"user_id=eq.{me.id}&kind=eq.spend&order=account_id,id"
    answer = HTTP.get(f"{env.api_url}/rest/v1/transactions_export?{mine}", headers=secret)
    assert answer.status_code == 200, answer.text
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    for row, key in zip(rows, spends.values(), strict=True):
        assert row["idempotency_key"] == (f"'{key}" if key in FORMULAS else key)
        assert (row["amount"], row["user_id"], row["actor"]) == ("-3", me.id, "authenticated")
        assert json.loads(row["metadata"]) == {"=x": "=1"}
        for name, cell in row.items():
            if name not in ("amount", "balance_after"):
                assert not cell.lstrip().startswith(("=", "+", "-", "@")), (name, cell)
    for headers in (me.headers(env), {"apikey": env.publishable_key}):
        refused = HTTP.get(f"{env.api_url}/rest/v1/transactions_export", headers=headers)
        assert refused.status_code in (401, 403)


def test_no_login_is_shown_to_users(ledger: Ledger) -> None:
    """A DBA's is kept where users do not see it."""
    user = ledger.sign_up()
    ledger.as_service("grant_credits", user_id=user, amount=9, source="promo")
    by_hand = ledger.value("select id from public.grant_credits(%s, 5, 'promo')", user)
    taken = ledger.claw_back(user, 1)["id"]
    hold = ledger.as_user(user, "hold_credits", operation="one", quantity=2)
    captured = ledger.value("select id from public.capture_hold(%s, %s)", hold["account_id"], hold["id"])
    ledger.as_user(user, "consume_credits", operation="one")
    actors = ledger.read_as_user(
        user, "select jsonb_agg(t.actor order by t.id) from public.credit_transactions as t"
    )
    assert actors == ["service_role", "operator", "operator", "operator", "authenticated"]
    kept = ledger.rows(
        "select transaction_id, login from credits.operator_entries "
        "where account_id = %s and transaction_id = any(%s) order by 1",
        hold["account_id"],
        [by_hand, taken, captured],
    )
    assert kept == [{"transaction_id": made, "login": "postgres"} for made in (by_hand, taken, captured)]
    # A role of the app's own is none of ours.
    ledger.rows("select set_config('request.jwt.claims', '{\"role\": \"dana@example.com\"}', false)")
    assert ledger.value("select credits.actor()") == "operator"
    ledger.rows("select set_config('request.jwt.claims', '', false)")
    assert ledger.broken(user) == []


@pytest.mark.parametrize("function", ["consume_credits", "hold_credits"])
def test_a_filter_on_the_answer_does_not_undo_the_call(
    user: Callable[..., User], env: Env, function: str
) -> None:
    """PostgREST filters what a function has answered. sql/README.md says so, and that the key finds it."""
    me = user()
    order = {"operation": "stable_diffusion", "idempotency_key": "k"}
    url = f"{env.api_url}/rest/v1/rpc/{function}"
    column, value = ("id", "0") if function == "consume_credits" else ("id", str(uuid.UUID(int=0)))
    hidden = HTTP.post(f"{url}?{column}=eq.{value}", json=order, headers=me.headers(env))
    assert (hidden.status_code, hidden.text) == (200, "null")
    found: Any = HTTP.post(url, json=order, headers=me.headers(env)).json()
    assert found["idempotency_key"] == "k"
    mine: Any = me.client.table("user_credits").select("available").single().execute().data
    assert mine["available"] == 7


def test_a_token_of_an_anonymous_user(
    user: Callable[..., User], env: Env, db: psycopg.Connection[Any]
) -> None:
    me = user()
    db.execute("delete from auth.users where id = %s", (me.id,))
    db.execute(
        "insert into auth.users (id, aud, role, is_anonymous, created_at, updated_at) "
        "values (%s, 'authenticated', 'authenticated', true, now(), now())",
        (me.id,),
    )
    answer = Api(env.api_url, me.headers(env)).rpc("consume_credits", operation="stable_diffusion")
    assert (answer.status, answer.code) == (403, "PT403")
    assert answer.body["message"] == "Sign up first: anonymous users hold no credits."


def test_signing_up_again_pays_nothing(user: Callable[..., User], env: Env) -> None:
    me = user()
    env.client(env.secret_key).auth.admin.delete_user(me.id)
    client = env.client()
    local, _, domain = me.email.partition("@")
    client.auth.sign_up({"email": f"{local}+2@{domain}", "password": "correct horse"})
    mine: Any = client.table("user_credits").select("balance").single().execute().data
    assert mine["balance"] == 0
