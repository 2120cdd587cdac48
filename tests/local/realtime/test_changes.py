"""Changes of tables: who sees which, in what form, and which filters."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import psycopg
import pytest

from supabase import Client
from tests.local.realtime.client import Json, change, raw
from tests.support.stack import Env, User

Db = psycopg.Connection[Any]
MakeUser = Callable[..., User]
VERSIONS = ("1.0.0", "2.0.0")

TABLES = """
create domain public.cents as bigint;
create domain public.exact as numeric(30, 10);
create table public.parcel (
    id bigint primary key, owner uuid, cents cents, exact exact, real double precision, made timestamptz,
    day date, doc jsonb, labels text[], done boolean, note text, secret text default 'hidden'
);
alter table public.parcel enable row level security;
create policy own on public.parcel for select to authenticated using (owner = (select auth.uid()));
revoke all on public.parcel from anon, authenticated;
grant select (id, owner, cents, exact, real, made, day, doc, labels, done, note) on public.parcel
to authenticated;
create table public.open_board (id int primary key, tall int, name text);
alter table public.open_board replica identity full;
create table public.keyless (name text);
alter table public.keyless replica identity full;
create table public.unpublished (id int primary key);
grant select on public.open_board, public.keyless, public.unpublished to authenticated;
alter publication supabase_realtime add table public.parcel, public.open_board, public.keyless;
"""


@pytest.fixture(scope="module")
def tables(env: Env) -> Iterator[Db]:
    """A connection as postgres, and tables that are published."""
    with psycopg.connect(env.db_url, autocommit=True) as db:
        db.execute(TABLES.encode())
        yield db
        db.execute(
            "drop table public.parcel, public.open_board, public.keyless, public.unpublished; "
            "drop domain public.cents, public.exact"
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_user_sees_a_spend_and_not_another_users(env: Env, user: MakeUser, version: str) -> None:
    mine, other = user(), user()
    with raw(env, version) as client:
        (subscription,) = client.watch("live", mine.token, change("credit_accounts"))
        other.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
        row = mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute().data
        assert isinstance(row, dict)
        # They come in the order of their commits: had the other's been sent, it would be this one.
        heard = client.hear_change()
    assert heard["ids"] == [subscription]
    data = heard["data"]
    assert (data["schema"], data["table"], data["type"]) == ("public", "credit_accounts", "UPDATE")
    assert data["record"]["user_id"] == mine.id
    assert data["record"]["available"] == row["balance_after"] == 7  # a number, though of a domain
    assert data["old_record"] == {"id": data["record"]["id"]}
    assert data["errors"] is None
    assert {"name": "available", "type": "credit_amount"} in data["columns"]


def test_who_may_select_all_sees_all(env: Env, user: MakeUser, service: Client) -> None:
    mine = user()
    with raw(env, key=env.secret_key) as client:
        client.watch("all", None, change("credit_accounts"))
        with raw(env) as stranger:
            # The policy is for authenticated: anon may not even select the key, which it is told.
            stranger.watch("all", None, change("credit_accounts"))
            mine.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
            assert client.hear_change()["data"]["record"]["user_id"] == mine.id
            refused = stranger.hear_change()["data"]
    assert refused["errors"] == ["Error 401: Unauthorized"]
    assert (refused["record"], refused["old_record"], refused["columns"]) == ({}, {}, [])


def test_values_come_as_json(env: Env, user: MakeUser, tables: Db) -> None:
    mine = user()
    with raw(env) as client:
        client.watch("values", mine.token, change("parcel"))
        tables.execute(
            "insert into public.parcel values (9007199254740993, %s, 12, 0.1000000001, 1.5, "
            "'2026-11-24 10:00:00.123456+02', '2026-02-28', '{\"a\": [1, null]}', '{x,\"y,z\"}', true, null)",
            [mine.id],
        )
        inserted = client.hear_change()["data"]
        tables.execute("update public.parcel set note = 'n' where owner = %s", [mine.id])
        updated = client.hear_change()["data"]
        tables.execute("delete from public.parcel where owner = %s", [mine.id])
        deleted = client.hear_change()["data"]
    assert inserted["record"] == {
        "id": 9007199254740993, "owner": mine.id, "cents": 12, "exact": 0.1000000001, "real": 1.5,
        "made": "2026-11-24T08:00:00.123456+00:00", "day": "2026-02-28", "doc": {"a": [1, None]},
        "labels": ["x", "y,z"], "done": True, "note": None,
    }  # fmt: skip
    # `secret` is not granted.
    assert [column["name"] for column in inserted["columns"]] == [
        "id", "owner", "cents", "exact", "real", "made", "day", "doc", "labels", "done", "note"
    ]  # fmt: skip
    assert inserted["type"] == "INSERT" and "old_record" not in inserted
    assert inserted["commit_timestamp"].endswith("Z") and len(inserted["commit_timestamp"]) == 24
    assert (updated["type"], updated["record"]["note"]) == ("UPDATE", "n")
    assert updated["old_record"] == {"id": 9007199254740993}
    # With policies nobody can say who may see what was: the key and no more, and to all that ask.
    assert (deleted["type"], deleted["old_record"]) == ("DELETE", {"id": 9007199254740993})
    assert "record" not in deleted


FILTERS = [
    "tall=eq.3", "tall=neq.3", "tall=lt.3", "tall=lte.3", "tall=gt.3", "tall=gte.3", "tall=in.(3,5)",
    "id=eq.2", "id=in.(1,2)", 'name=eq."b,c"', "name=like.b%", "name=ilike.B%", "name=match.^b",
    "name=is.null", "tall=not.in.(3,5)", "tall=gt.1,tall=lt.4", "tall=isdistinct.3", "",
    "name=in.(b,\"b,c\")",
]  # fmt: skip
MEETS: list[Callable[[int, int | None, str | None], bool]] = [
    lambda _, tall, __: tall == 3,
    lambda _, tall, __: tall is not None and tall != 3,
    lambda _, tall, __: tall is not None and tall < 3,
    lambda _, tall, __: tall is not None and tall <= 3,
    lambda _, tall, __: tall is not None and tall > 3,
    lambda _, tall, __: tall is not None and tall >= 3,
    lambda _, tall, __: tall in (3, 5),
    lambda row, _, __: row == 2,
    lambda row, _, __: row in (1, 2),
    lambda _, __, name: name == "b,c",
    lambda _, __, name: name is not None and name.startswith("b"),
    lambda _, __, name: name is not None and name.startswith("b"),
    lambda _, __, name: name is not None and name.startswith("b"),
    lambda _, __, name: name is None,
    lambda _, tall, __: tall is not None and tall not in (3, 5),
    lambda _, tall, __: tall is not None and 1 < tall < 4,
    lambda _, tall, __: tall != 3,
    lambda _, __, ___: True,
    lambda _, __, name: name in ("b", "b,c"),
]


def test_filters(env: Env, user: MakeUser, tables: Db) -> None:
    """One channel with all of them: the ids of a change tell which let it through."""
    rows: list[tuple[int, int | None, str | None]] = [
        (1, 2, "a"), (2, 3, "b"), (3, 4, "b,c"), (4, 5, None), (5, None, "bee"),
    ]  # fmt: skip
    asked = [change("open_board", filter=text) for text in FILTERS]
    with raw(env) as client:
        ids = client.watch("filters", user().token, *asked)
        for row in rows:
            tables.execute("insert into public.open_board values (%s, %s, %s)", row)
        for row in rows:
            heard = client.hear_change()
            assert heard["data"]["record"]["id"] == row[0]
            expected = [text for text, meets in zip(FILTERS, MEETS, strict=True) if meets(*row)]
            assert [
                text for text, each in zip(FILTERS, ids, strict=True) if each in heard["ids"]
            ] == expected, row
        # A deleted row is told by what it was; here nothing guards it, so all of it.
        tables.execute("delete from public.open_board where id = 2")
        heard = client.hear_change()
        assert heard["data"]["old_record"] == {"id": 2, "tall": 3, "name": "b"}
        assert ids[FILTERS.index("tall=eq.3")] in heard["ids"]
        assert ids[FILTERS.index("tall=gt.3")] not in heard["ids"]
        tables.execute("delete from public.open_board")


def test_events_schemas_and_tables(env: Env, user: MakeUser, tables: Db) -> None:
    with raw(env) as client:
        inserts, deletes, schema, everything, chosen = client.watch(
            "events", user().token,
            change("open_board", "INSERT"), change("open_board", "DELETE"),
            {"event": "*", "schema": "public"}, {"event": "*", "schema": "*"},
            change("open_board", select=["name"]),
        )  # fmt: skip
        tables.execute("insert into public.open_board values (10, 1, 'x')")
        tables.execute("delete from public.open_board where id = 10")
        heard = [client.hear_change() for _ in range(4)]
    # Those that choose columns get the change in another form.
    forms = [
        (each["data"]["type"], sorted(each["data"].get("record") or each["data"]["old_record"]))
        for each in heard
    ]
    assert {tuple(sorted(each["ids"])): form for each, form in zip(heard, forms, strict=True)} == {
        (inserts, schema, everything): ("INSERT", ["id", "name", "tall"]),
        (chosen,): ("DELETE", ["id", "name"]),
        (deletes, schema, everything): ("DELETE", ["id", "name", "tall"]),
    }
    assert forms.count(("INSERT", ["id", "name"])) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (change("unpublished"), "Please check Realtime is enabled for the given connect parameters"),
        (change("nowhere"), "Please check Realtime is enabled for the given connect parameters"),
        (change("open_board", filter="tall=eq.x"), 'invalid input syntax for type integer: "x"'),
        (change("open_board", filter="width=eq.1"), "invalid column for filter width"),
        (change("parcel", filter="secret=eq.hidden"), "invalid column for filter secret"),
        (change("parcel", select=["secret"]), "invalid column for select secret"),
        (change("open_board", filter="tall"), "is not column=operator.value"),
        (change("open_board", filter="name=eq.b,c"), "'c' is not column=operator.value"),
        (change("open_board", filter="tall=near.3"), "is not column=operator.value"),
        (change("open_board", filter="tall=in.3"), "must be wrapped by parentheses"),
        (change("open_board", filter=f"tall=in.({','.join('1' * 101)})"), "too many values"),
        (change("open_board", filter="tall=like.3"), "operator does not exist"),
        (change("open_board", filter="name=match.("), "invalid regular expression"),
        (change("open_board", filter="name=is.maybe"), "invalid value for is filter"),
        (change("open_board", filter="tall=eq.1);(1"), 'invalid input syntax for type integer: "1);(1"'),
        ({"event": "*", "schema": "*", "select": ["id"]}, "Column selection is not supported"),
        ({"event": "*"}, "No subscription params provided"),
        ({"event": "*", "schema": 1}, "No subscription params provided"),
        (change("open_board", filter=7), "it has to be a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_subscription_is_said(
    env: Env, user: MakeUser, tables: Db, asked: Json, message: str
) -> None:
    with raw(env) as client:
        assert client.join("wrong", user().token, asked)["status"] == "ok"
        said = client.until("system").payload
    assert (said["extension"], said["status"], said["channel"]) == ("postgres_changes", "error", "wrong")
    assert message in said["message"]


def test_a_table_without_a_key_and_a_large_row(env: Env, user: MakeUser, tables: Db) -> None:
    with raw(env) as client:
        client.watch("odd", user().token, change("keyless"), change("open_board"))
        tables.execute("insert into public.keyless values ('a')")
        assert client.hear_change()["data"]["errors"] == ["Error 400: Bad Request, no primary key"]
        tables.execute("insert into public.open_board values (20, 1, repeat('x', 1200000))")
        large = client.hear_change()["data"]
        tables.execute("delete from public.open_board")
    assert (large["errors"], large["record"]) == (["Error 413: Payload Too Large"], {"id": 20, "tall": 1})


def test_a_policy_that_fails_lets_nobody_in_and_holds_up_nobody(env: Env, user: MakeUser, tables: Db) -> None:
    """auth.uid() of a token whose `sub` is no uuid raises."""
    mine = user()
    odd = jwt.encode(
        {"role": "authenticated", "sub": "no uuid", "exp": 4_000_000_000}, env.jwt_secret, "HS256"
    )
    with raw(env) as client, raw(env) as other:
        client.watch("a", odd, change("parcel"))
        other.watch("b", mine.token, change("parcel"))
        for number in (31, 32):
            tables.execute("insert into public.parcel (id, owner) values (%s, %s)", [number, mine.id])
            assert other.hear_change()["data"]["record"]["id"] == number
        tables.execute("delete from public.parcel")
        assert client.hear_change()["data"]["type"] == "DELETE"  # the first that it gets


def test_a_transaction_that_is_rolled_back_is_not_heard_of(env: Env, user: MakeUser, tables: Db) -> None:
    with raw(env) as client:
        client.watch("a", user().token, change("open_board"))
        with tables.transaction(force_rollback=True):
            tables.execute("insert into public.open_board values (41, 1, 'x')")
        with tables.transaction():
            tables.execute("insert into public.open_board values (42, 1, 'x')")
            tables.execute("update public.open_board set id = 43 where id = 42")
        heard = [client.hear_change()["data"] for _ in range(2)]
        tables.execute("delete from public.open_board")
    assert [(each["type"], each["record"]["id"]) for each in heard] == [("INSERT", 42), ("UPDATE", 43)]
    assert heard[1]["old_record"]["id"] == 42


def test_tables_of_this_project_that_are_published(env: Env, user: MakeUser) -> None:
    """The account and nothing else: other tables of the ledger cannot be subscribed to."""
    with raw(env) as client:
        client.join(
            "ledger", user().token, change("credit_transactions", filter=f"account_id=eq.{uuid.uuid4()}")
        )
        assert client.until("system").payload["status"] == "error"
