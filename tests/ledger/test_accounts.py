"""Accounts: opened at sign-up or at the first call, kept when the user goes."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from scripts.local.stack import Stack
from supabase import Client
from tests.support import clock
from tests.support.ledger import Ledger, Refused
from tests.support.rest import Api
from tests.support.stack import Env, User


def test_sign_up_opens_an_account_with_the_bonus(user: Callable[..., User], env: Env) -> None:
    me = user()
    caller = Api(env.api_url, me.headers(env))
    mine = caller.ok("my_credits")
    assert (mine["balance"], mine["available"], mine["held"], mine["frozen"]) == (10, 10, 0, False)
    assert mine["totals"] == {"granted": 10, "spent": 0, "refunded": 0, "expired": 0, "clawed_back": 0}
    row: Any = me.client.table("user_credits").select("*").single().execute().data
    assert (row["balance"], row["lifetime_granted"]) == (10, 10)
    history: Any = me.client.table("credit_transactions").select("*").execute().data
    assert [(x["kind"], x["amount"], x["idempotency_key"]) for x in history] == [
        ("grant", 10, "sys:signup_bonus")
    ]


def test_deleting_the_user_unlinks_the_account_and_keeps_the_ledger(
    user: Callable[..., User], service: Client, db: "psycopg.Connection[Any]", env: Env
) -> None:
    me = user()
    spent = Api(env.api_url, me.headers(env)).ok("consume_credits", operation="meme_generation")
    service.auth.admin.delete_user(me.id)
    row = db.execute(
        "select a.user_id, a.balance, "
        "(select count(*) from public.credit_transactions t where t.account_id = a.id) "
        "from public.credit_accounts a where a.id = %s",
        (spent["account_id"],),
    ).fetchone()
    assert row == (None, 5, 2)
    broken = db.execute(
        "select * from public.verify_ledger() where account_id = %s", (spent["account_id"],)
    ).fetchall()
    assert broken == []


def test_a_failing_trigger_does_not_block_sign_up(own_ledger: Ledger) -> None:
    ledger = own_ledger
    ledger.rows("update credits.billing_settings set signup_bonus = 10")
    # A mistake of the operator's that makes every new account fail.
    ledger.rows("alter table public.credit_accounts add constraint broken check (balance > 5) not valid")
    user = ledger.sign_up()
    assert ledger.value("select count(*) from auth.users where id = %s", user) == 1
    assert ledger.value("select count(*) from public.credit_accounts") == 0
    with pytest.raises(Refused) as caught:
        ledger.as_user(user, "my_credits")
    assert caught.value.code == "PT404"
    assert ledger.as_user(user, "quote_credits", operation="one")["available"] == 0
    ledger.rows("alter table public.credit_accounts drop constraint broken")
    assert ledger.as_user(user, "consume_credits", operation="one")["balance_after"] == 9
    assert ledger.as_user(user, "my_credits")["totals"]["granted"] == 10


FIRST_CALLS = [(function, key) for function in ("consume_credits", "hold_credits") for key in (None, "key")]


@pytest.fixture(scope="module")
def installed_later(stack: Stack) -> Iterator[tuple[Ledger, list[str]]]:
    """A ledger in a project that had users already, one for each of their first calls; and these users."""
    name = f"older_{uuid.uuid4().hex[:12]}"
    url = stack.create_database(name)
    older = [str(uuid.uuid4()) for _ in FIRST_CALLS]
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            for user in older:
                connection.execute(
                    "insert into auth.users (id, email, email_confirmed_at) values (%s, %s, now())",
                    (user, f"{user}@example.com"),
                )
        stack.apply_migrations(url)
        with Ledger(psycopg.connect(url, autocommit=True)) as ledger:
            clock.install(ledger.connection)
            ledger.rows(
                "insert into public.pricing_tiers (operation, provider, model, credits_per_unit) "
                "values ('one', 'x', 'y', 1)"
            )
            yield ledger, older
    finally:
        stack.drop_database(name)


@pytest.mark.parametrize(("function", "key"), FIRST_CALLS)
def test_users_from_before_the_installation_open_it_with_their_first_call(
    installed_later: tuple[Ledger, list[str]], function: str, key: str | None
) -> None:
    ledger, users = installed_later
    older = users[FIRST_CALLS.index((function, key))]
    ledger.as_user(older, function, operation="one", idempotency_key=key)
    assert ledger.account(older)["lifetime_granted"] == 10
    assert ledger.broken() == []


def test_the_bonus_is_a_setting_and_may_expire(own_ledger: Ledger) -> None:
    ledger = own_ledger
    ledger.rows("update credits.billing_settings set signup_bonus = 25, signup_bonus_lifetime = '7 days'")
    user = ledger.sign_up()
    mine = ledger.as_user(user, "my_credits")
    assert mine["balance"] == 25
    assert [(x["credits"], x["source"]) for x in mine["expiring_next"]] == [(25, "bonus")]
    ledger.rows("update credits.billing_settings set signup_bonus = 0")
    assert ledger.as_user(ledger.sign_up(), "my_credits")["balance"] == 0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("grant_credits", {"amount": 1, "source": "promo"}),
        ("freeze_account", {"reason": "x"}),
        ("unfreeze_account", {}),
    ],
)
@pytest.mark.parametrize("user_id", [None, str(uuid.UUID(int=9))])
def test_there_is_no_account_without_a_user(
    ledger: Ledger, function: str, arguments: dict[str, Any], user_id: str | None
) -> None:
    before = ledger.value("select count(*) from public.credit_accounts")
    with pytest.raises(Refused) as caught:
        ledger.as_service(function, user_id=user_id, **arguments)
    assert caught.value.code == "PT404"
    assert ledger.value("select count(*) from public.credit_accounts") == before


@pytest.mark.parametrize("function", ["consume_credits", "hold_credits", "quote_credits"])
def test_nobody_acts_without_a_user_id(ledger: Ledger, function: str) -> None:
    with pytest.raises(Refused) as caught:
        ledger.call("authenticated", None, function, operation="one")
    assert caught.value.code == "PT403"
