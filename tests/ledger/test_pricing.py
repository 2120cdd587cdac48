"""Prices as rows: what a DBA may do, what is refused, what is remembered."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.clock import DAY
from tests.support.ledger import Ledger, Refused, buyer
from tests.support.stack import Database


def _dba(database: Database) -> Iterator[Ledger]:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        name = f"dba_{database.name}"
        admin.execute(f"create role {name} login password 'secret' in role pricing_admin")
        try:
            url = database.url
            with Ledger(psycopg.connect(url, user=name, password="secret", autocommit=True)) as made:
                yield made
        finally:
            admin.execute(f"drop role {name}")


@pytest.fixture
def dba(own_db: Database) -> Iterator[Ledger]:
    """A login that has nothing but pricing_admin, in the same database as own_ledger."""
    yield from _dba(own_db)


@pytest.fixture(scope="module")
def refused_dba(module_db: Database) -> Iterator[Ledger]:
    """The same for what is refused, and so changes nothing."""
    yield from _dba(module_db)


def test_an_update_shows_in_the_next_quote_and_not_in_the_past(own_ledger: Ledger, dba: Ledger) -> None:
    user = buyer(own_ledger, 100)
    before = own_ledger.as_user(user, "consume_credits", operation="one")
    old = own_ledger.as_user(user, "quote_credits", operation="one")
    dba.rows("update public.pricing_tiers set credits_per_unit = 2.5 where operation = 'one'")
    quote = own_ledger.as_user(user, "quote_credits", operation="one", quantity=3)
    assert (quote["credits"], old["credits"]) == (8, 1)
    assert quote["price_version"] > old["price_version"]
    spent = own_ledger.as_user(user, "consume_credits", operation="one")
    assert (spent["unit_price"], spent["price_version"]) == (2.5, quote["price_version"])
    row = own_ledger.rows(
        "select to_jsonb(t) as row from public.credit_transactions t where id = %s", before["id"]
    )
    assert row[0]["row"] == before

    history = dba.rows(
        "select * from credits.pricing_tier_history where new ->> 'operation' = 'one' order by version"
    )
    assert [entry["action"] for entry in history] == ["insert", "update"]
    assert history[1]["changed_by"] == dba.value("select session_user")
    assert history[1]["changed_at"].tzinfo
    assert [history[1][side]["credits_per_unit"] for side in ("old", "new")] == [1, 2.5]
    assert history[1]["version"] == quote["price_version"]


def test_a_future_price_takes_effect_by_itself(own_ledger: Ledger, dba: Ledger) -> None:
    user, now = buyer(own_ledger, 100), own_ledger.now()

    def price() -> int:
        quote: dict[str, int] = own_ledger.as_user(user, "quote_credits", operation="one")
        shown = own_ledger.read_as_user(
            user, "select array_agg(credits_per_unit) from public.pricing_tiers where operation = 'one'"
        )
        assert shown == [quote["credits"]]
        return quote["credits"]

    dba.rows(
        "insert into public.pricing_tiers (operation, provider, model, credits_per_unit, effective_from) "
        "values ('one', 'test', 'test', 2, %s)",
        now + DAY,
    )
    assert price() == 1
    own_ledger.pass_time(DAY + timedelta(seconds=1))
    assert price() == 2
    # Editing the price in force with a future date keeps it until then.
    dba.rows(
        "update public.pricing_tiers set credits_per_unit = 3, effective_from = %s "
        "where operation = 'one' and credits_per_unit = 2",
        now + 2 * DAY,
    )
    assert price() == 2
    own_ledger.pass_time(DAY)
    assert price() == 3


def test_an_operation_with_no_active_price_is_not_sold(own_ledger: Ledger, dba: Ledger) -> None:
    user = buyer(own_ledger, 100)
    dba.rows("update public.pricing_tiers set active = false where operation = 'one'")
    with pytest.raises(Refused) as caught:
        own_ledger.as_user(user, "consume_credits", operation="one")
    assert caught.value.code == "PT404"


PRICE = "over_0_and_at_most_1000000"


@pytest.mark.parametrize(
    ("table", "column", "value", "constraint"),
    [
        *[
            ("pricing_tiers", "credits_per_unit", x, PRICE)
            for x in ("NaN", "Infinity", "-Infinity", "0", "-1", "1000001")
        ],
        ("pricing_tiers", "credits_per_unit", "0.00001", "at_most_4_decimals"),
        ("pricing_tiers", "operation", "Bad Slug", "operation_must_be_snake_case"),
        ("pricing_tiers", "operation", "", "operation_must_be_snake_case"),
        ("pricing_tiers", "provider", " ", "provider_must_have"),
        ("pricing_tiers", "model", "", "model_must_have"),
        ("pricing_tiers", "unit", "", "unit_must_have"),
        ("pricing_tiers", "effective_from", "infinity", "effective_from_must_be_a_real_time"),
        ("pricing_tiers", "metadata", "[]", "metadata_must_be_an_object"),
        ("credit_packages", "slug", "Big Deal", "slug_must_be"),
        ("credit_packages", "name", "  ", "name_must_have"),
        ("credit_packages", "credits", "0", "credits_must_be_1_to"),
        ("credit_packages", "credits", "-5", "credits_must_be_1_to"),
        ("credit_packages", "unit_amount", "0", "unit_amount_must_be"),
        ("credit_packages", "unit_amount", "-499", "unit_amount_must_be"),
        ("credit_packages", "currency", "USD", "currency_must_be"),
        ("credit_packages", "currency", "dollars", "currency_must_be"),
        ("credit_packages", "stripe_price_id", "prod_1", "stripe_price_id_must_start_with_price"),
    ],
)
def test_nonsense_is_refused_by_a_constraint_that_says_why(
    refused_dba: Ledger, table: str, column: str, value: str, constraint: str
) -> None:
    key, one = ("operation", "image_edit") if table == "pricing_tiers" else ("slug", "pro")
    with pytest.raises(Refused) as caught:
        refused_dba.rows(f"update public.{table} set {column} = %s where {key} = %s", value, one)
    assert caught.value.code == "23514"
    assert constraint in (caught.value.constraint or "")
    assert (caught.value.constraint or "") in caught.value.message


@pytest.mark.parametrize(
    "attempt",
    [
        "delete from public.pricing_tiers",
        "truncate public.pricing_tiers",
        "update public.pricing_tiers set version = 1",
        "update public.pricing_tiers set id = default",
        "delete from public.credit_packages",
        "insert into credits.pricing_tier_history (tier_id, action) values (1, 'insert')",
        "update credits.pricing_tier_history set changed_by = 'someone'",
        "select * from public.credit_accounts",
        "select * from public.credit_transactions",
        "select * from public.user_credits",
        "select * from credits.billing_settings",
        "select * from auth.users",
        "select public.grant_credits(gen_random_uuid(), 1, 'promo')",
        "select public.consume_credits('one')",
        "select credits.run_maintenance()",
        "select credits.grant_to_account(gen_random_uuid(), 1, 'promo', null, null, null, '{}')",
        "create table public.mine ()",
        "set role service_role",
        "set role postgres",
    ],
)
def test_pricing_admin_can_do_nothing_else(refused_dba: Ledger, attempt: str) -> None:
    with pytest.raises(Refused) as caught:
        refused_dba.rows(attempt)
    assert caught.value.code in ("42501", "428C9")


def test_a_dba_adds_a_package(own_ledger: Ledger, dba: Ledger) -> None:
    dba.rows(
        "insert into public.credit_packages (slug, name, credits, unit_amount) "
        "values ('mega', 'Mega', 9000, 49900)"
    )
    dba.rows("update public.credit_packages set active = false where slug = 'starter'")
    seen: Any = own_ledger.ask(
        "anon", "{}", sql.SQL("select array_agg(slug::text order by id) from public.credit_packages")
    )
    assert seen == ["popular", "pro", "enterprise", "mega"]
