"""What is one user's stays one user's."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from scripts.checks import catalog
from tests.support.rest import Caller, Person, code

Connection = psycopg.Connection[Any]

# Rows that everybody may see.
SHARED = {"pricing_tiers", "credit_packages", "subscription_plans"}
# What a person of conftest has: one account; the bonus, two grants, a spend and a capture; three holds,
# one of them a generation job's; a provider call of it; a purchase and a subscription.
OWN = {
    "credit_accounts": 1,
    "credit_transactions": 5,
    "credit_holds": 3,
    "user_credits": 1,
    "generation_jobs": 1,
    "purchases": 1,
    "subscriptions": 1,
    "usage_logs": 1,
}
OWNER = {
    "credit_accounts": "id",
    "credit_transactions": "account_id",
    "credit_holds": "account_id",
    "user_credits": "account_id",
    "generation_jobs": "account_id",
    "purchases": "account_id",
    "subscriptions": "account_id",
    "usage_logs": "account_id",
}

# Calls that only read, and tell what is the caller's.
READ = ("credit_usage", "credit_history", "credit_lots")


@pytest.fixture
def ann(person: Callable[[], Person]) -> Person:
    return person()


@pytest.fixture
def bob(person: Callable[[], Person]) -> Person:
    return person()


def leaks(text: str, owner: Person) -> list[str]:
    """What of the owner's stands in the text."""
    return [secret for secret in owner.secrets if secret in text]


def test_every_readable_relation_is_known_here(allowed: catalog.Grants) -> None:
    """A new one has to say above whether its rows are shared, and how many a person has."""
    readable = {
        name.removeprefix("public.")
        for name, roles in allowed["relations"].items()
        if name.startswith("public.") and "select" in roles.get("authenticated", set())
    }
    assert readable == SHARED | OWN.keys() == SHARED | OWNER.keys()


@pytest.mark.parametrize("relation", OWN)
def test_each_sees_just_their_own_rows(ann: Person, bob: Person, relation: str) -> None:
    for me, other in ((ann, bob), (bob, ann)):
        answer = me.caller.get(f"{relation}?select=*", Prefer="count=exact")
        assert answer.status_code == 200
        assert {row[OWNER[relation]] for row in answer.json()} == {me.account_id}
        assert answer.headers["content-range"] == f"0-{OWN[relation] - 1}/{OWN[relation]}"
        assert leaks(answer.text, other) == []


@pytest.mark.parametrize("relation", OWN)
def test_counts_and_filters_do_not_tell_of_others(ann: Person, bob: Person, relation: str) -> None:
    owner = OWNER[relation]
    filters = [
        f"{owner}=eq.{ann.account_id}",
        f"{owner}=in.({ann.account_id},{bob.account_id})&{owner}=neq.{bob.account_id}",
        f"or=({owner}.eq.{ann.account_id},and({owner}.eq.{ann.account_id},{owner}.not.is.null))",
        f"{owner}=not.eq.{bob.account_id}",
    ]
    if relation == "credit_accounts":
        filters.append(f"user_id=eq.{ann.user.id}")
    if relation == "credit_transactions":
        # Each account's rows are numbered from 1.
        filters += [
            f"account_id=eq.{ann.account_id}&id=eq.{ann.spend_id}",
            f"idempotency_key=eq.{quote(ann.key)}",
        ]
    if relation == "credit_holds":
        filters.append(f"id=eq.{ann.hold_id}")
    for query in filters:
        for verb in ("GET", "HEAD"):
            answer = bob.caller.send(verb, f"{relation}?select=*&{query}", Prefer="count=exact")
            assert answer.status_code == 200, query
            assert answer.headers["content-range"] == "*/0", query
            assert answer.text in ("", "[]"), query
    everything = bob.caller.get(f"{relation}?limit=0", Prefer="count=exact")
    assert everything.headers["content-range"] == f"*/{OWN[relation]}"


@pytest.mark.parametrize(
    "query",
    [
        "credit_holds?select=*,credit_accounts(*)",
        "credit_holds?select=*,credit_accounts!inner(*),credit_transactions(*)",
        "credit_accounts?select=*,credit_holds(*,credit_transactions(*))",
        "credit_transactions?select=*,credit_holds(*,credit_accounts(*))",
    ],
)
def test_embedding_does_not_reach_others(ann: Person, bob: Person, query: str) -> None:
    answer = bob.caller.get(query)
    assert answer.status_code == 200, answer.text
    assert bob.account_id in answer.text
    assert leaks(answer.text, ann) == []


def test_filters_through_embedding_do_not_reach_others(ann: Person, bob: Person) -> None:
    answer = bob.caller.get(
        f"credit_holds?select=id,credit_accounts!inner(id)&credit_accounts.user_id=eq.{ann.user.id}"
    )
    assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize("accept", ["text/csv", "application/vnd.pgrst.object+json", "application/geo+json"])
def test_other_formats_do_not_tell_of_others(ann: Person, bob: Person, accept: str) -> None:
    for relation in OWN:
        assert leaks(bob.caller.get(relation, Accept=accept).text, ann) == []


def test_rpcs_know_only_the_caller(ann: Person, bob: Person) -> None:
    assert (
        bob.caller.rpc("my_credits").json()["balance"]
        == ann.caller.rpc("my_credits").json()["balance"]
        == 113
    )
    # A key is the account's own: with Ann's, Bob gets a spend of his own.
    answer = bob.caller.rpc("consume_credits", operation="security_test", quantity=3, idempotency_key=ann.key)
    assert answer.json()["account_id"] == bob.account_id
    assert leaks(answer.text.replace(ann.key, ""), ann) == []
    assert ann.caller.rpc("my_credits").json()["balance"] == 113


@pytest.mark.parametrize("function", READ)
def test_what_is_told_of_use_is_the_callers_alone(
    ann: Person, bob: Person, anon: Caller, function: str
) -> None:
    mine = ann.caller.rpc(function)
    theirs = bob.caller.rpc(function)
    assert mine.status_code == theirs.status_code == 200
    assert leaks(theirs.text, ann) == [] == leaks(mine.text, bob)
    ann.caller.rpc("consume_credits", operation="security_test", quantity=3)
    without_time = [
        {name: value for name, value in answer.json().items() if name != "as_of"}
        for answer in (theirs, bob.caller.rpc(function), mine, ann.caller.rpc(function))
    ]
    assert without_time[0] == without_time[1] and without_time[2] != without_time[3]
    # Safe to read with GET; nobody who is not signed in may.
    assert bob.caller.get(f"rpc/{function}").status_code == 200
    for answer in (anon.rpc(function), anon.get(f"rpc/{function}")):
        assert (answer.status_code, code(answer)) == (401, "42501")


def test_a_time_zone_is_the_callers(ann: Person, bob: Person, anon: Caller) -> None:
    changed = ann.caller.rpc("set_time_zone", zone="Pacific/Apia")
    assert changed.json() == {"zone": "Pacific/Apia", "changed": True}
    assert ann.caller.rpc("credit_usage").json()["zone"] == "Pacific/Apia"
    assert bob.caller.rpc("credit_usage").json()["zone"] == "UTC"
    assert code(anon.rpc("set_time_zone", zone="Asia/Tokyo")) == "42501"
    assert bob.caller.get("rpc/set_time_zone?zone=Asia/Tokyo").status_code in (400, 405)


def test_a_year_is_one_document_and_too_much_is_refused_with_a_way_out(ann: Person) -> None:
    year = ann.caller.rpc("credit_usage", **{"from": "2026-01-01", "to": "2028-01-01"})
    assert year.status_code == 200 and len(year.json()["starts"]) == 730
    for asked in (
        {"from": "0001-01-01", "to": "9999-12-31"},
        {"grain": "hour", "from": "2026-01-01", "to": "2026-02-01"},
        {"filter": {"account_id": "x"}}, {"by": "member"},
    ):  # fmt: skip
        answer = ann.caller.rpc("credit_usage", **asked)
        assert (answer.status_code, code(answer)) == (400, "PT400") and answer.json()["hint"]
    assert ann.caller.rpc("credit_usage", **{"from": "yesterday-ish"}).status_code == 400


def test_a_user_cannot_act_on_holds_not_even_their_own(ann: Person, bob: Person) -> None:
    for hold in (ann.hold_id, bob.hold_id, "00000000-0000-4000-8000-000000000000"):
        for function in ("capture_hold", "release_hold"):
            answer = bob.caller.rpc(function, account_id=bob.account_id, hold_id=hold)
            assert (answer.status_code, code(answer)) == (403, "42501")


def test_a_user_cannot_name_another(ann: Person, bob: Person) -> None:
    """No RPC of users takes a user or an account."""
    for function in ("my_credits", "consume_credits", "quote_credits", "hold_credits", *READ):
        for name in ("user_id", "account_id"):
            answer = bob.caller.rpc(function, operation="security_test", **{name: ann.user.id})
            assert (answer.status_code, code(answer)) == (404, "PGRST202")
    answer = bob.caller.rpc("grant_credits", user_id=bob.user.id, amount=5, source="bonus")
    assert (answer.status_code, code(answer)) == (403, "42501")


def test_anon_sees_prices_and_packages_and_no_one(ann: Person, anon: Caller) -> None:
    for relation in OWN:
        answer = anon.get(f"{relation}?select=*", Prefer="count=exact")
        assert (answer.status_code, code(answer)) == (401, "42501")
        assert "content-range" not in answer.headers
    for relation in SHARED:
        assert anon.get(relation).status_code == 200


def test_anon_and_users_see_only_prices_in_force_and_active_packages(
    anon: Caller, ann: Person, db: Connection
) -> None:
    tiers = db.execute(
        "insert into public.pricing_tiers "
        "(operation, provider, model, credits_per_unit, effective_from, active) values "
        "('security_hidden', 'p', 'm', 1, '2020-01-01', false), "
        "('security_later', 'p', 'm', 2, '2099-01-01', true), "
        "('security_both', 'p', 'm', 3, '2020-01-01', true), "
        "('security_both', 'p', 'm', 4, '2021-01-01', true) returning id"
    ).fetchall()
    packages = db.execute(
        "insert into public.credit_packages (slug, name, credits, unit_amount, active) "
        "values ('security-hidden', 'n', 1, 1, false), ('security-shown', 'n', 1, 1, true) returning id"
    ).fetchall()
    try:
        for caller in (anon, ann.caller):
            prices = caller.get("pricing_tiers?operation=like.security_*&select=credits_per_unit,operation")
            shown = {(row["operation"], row["credits_per_unit"]) for row in prices.json()}
            assert shown == {("security_test", 1), ("security_both", 4)}
            slugs = caller.get("credit_packages?slug=like.security-*&select=slug").json()
            assert slugs == [{"slug": "security-shown"}]
    finally:
        db.execute("delete from public.pricing_tiers where id = any(%s)", [[row[0] for row in tiers]])
        db.execute("delete from public.credit_packages where id = any(%s)", [[row[0] for row in packages]])


def test_the_operator_sees_all(ann: Person, bob: Person, operator: Caller) -> None:
    for relation in OWN.keys() - {"user_credits"}:
        answer = operator.get(f"{relation}?{OWNER[relation]}=in.({ann.account_id},{bob.account_id})")
        assert {row[OWNER[relation]] for row in answer.json()} == {ann.account_id, bob.account_id}


def test_policies_hold_in_sql_for_each_role(ann: Person, bob: Person, db: Connection) -> None:
    """The same without PostgREST: as the role, with the claims. No claims, no rows."""
    for claims, expected in (
        (f'{{"sub": "{ann.user.id}"}}', {ann.account_id}),
        (f'{{"sub": "{bob.user.id}"}}', {bob.account_id}),
        ("{}", set()),
        ("", set()),
    ):
        for relation in OWN:
            with db.transaction(force_rollback=True):
                db.execute("select set_config('request.jwt.claims', %s, true)", [claims])
                db.execute("set local role authenticated")
                rows = db.execute(f"select {OWNER[relation]}::text from public.{relation}").fetchall()
                assert {row[0] for row in rows} == expected, relation
