"""verify_ledger finds what someone with all rights changed behind the ledger's back."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support.clock import DAY, MINUTE
from tests.support.ledger import Ledger, Refused, lot, small_batches
from tests.support.stack import Database


@pytest.fixture(scope="module")
def lived(module_db: Database) -> Iterator[Ledger]:
    """A ledger with some of everything: sealed and unsealed rows, open and closed holds. On a superuser's
    connection; what a test does to it is undone.
    """
    with Ledger(psycopg.connect(module_db.url, autocommit=True)) as ledger:
        # An account's rows lie in several seals.
        small_batches(ledger, 2)
        live(ledger)
    with Ledger(psycopg.connect(module_db.admin_url, autocommit=True)) as ledger:
        ledger.rows("set search_path = ''")
        yield ledger


def live(ledger: Ledger) -> None:
    """Two users' histories."""
    for _ in range(2):
        user = ledger.sign_up()
        lot(ledger, user, 30, DAY)
        ledger.as_service("grant_credits", user_id=user, amount=20, source="purchase")
        spent = ledger.as_user(
            user,
            "consume_credits",
            operation="one",
            quantity=5,
            metadata={"prompt": 1},
            idempotency_key="first",
        )
        holds = [ledger.as_user(user, "hold_credits", operation="one", quantity=3) for _ in range(2)]
        ledger.as_service(
            "capture_hold",
            account_id=holds[0]["account_id"],
            hold_id=holds[0]["id"],
            quantity=2,
            metadata={"images": 2},
        )
        ledger.as_user(user, "consume_credits", operation="one", metadata={"for": "ann@example.com"})
        ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"], amount=2)
        ledger.claw_back(user, 4)
        # In one seal with the capture, whose text stays.
        ledger.as_service("erase_transaction_text", account_id=spent["account_id"], transaction_id=5)
        lot(ledger, user, 5, MINUTE)  # of which the open hold keeps 3
        ledger.pass_time(2 * MINUTE)
        ledger.settle(user)
        for quantity in (1, 2, 3):
            ledger.as_user(
                user, "consume_credits", operation="one", quantity=quantity, metadata={"n": quantity}
            )
    assert ledger.broken() == []


ENTRIES = "public.credit_transactions"
# Both accounts have lived the same life, so a number names a row of each: one of them is meant.
ME = "(select max(id::text)::uuid from public.credit_accounts)"
OTHER = ME.replace("max", "min")
MINE = f"account_id = {ME}"
SEALED = f"{MINE} and id = (select min(id) from {ENTRIES} where kind = 'spend')"
UNSEALED = f"{MINE} and id = (select max(id) - 1 from {ENTRIES} where kind = 'spend')"
LAST = f"{MINE} and id = (select max(id) from {ENTRIES})"
FIRST = f"{MINE} and id = 1"
ERASED = f"{MINE} and id = 5"
COPIED = (
    "account_id, kind, amount, operation, quantity, unit_price, price_version, actor, metadata, created_at"
)
SUM, CHAIN, SEAL, NUMBERS, NEWEST, FORMAT = (
    "balance is the sum of the ledger",
    "each balance_after follows from the one before",
    "each seal matches its ledger rows",
    "ledger rows are numbered without a gap",
    "the account knows the number of its newest ledger row",
    "each seal has a format that is known",
)
TOTALS = "lifetime totals are the sums of the ledger"
REMAINS = "what remains of a lot is its amount less its allocations"
LOTS = "each transaction has the lots that it should have"

TAMPERINGS = [
    (
        "sealed amount",
        f"update {ENTRIES} set amount = amount - 5, quantity = 10 where {SEALED}",
        {SUM, CHAIN, SEAL},
    ),
    (
        "unsealed amount",
        f"update {ENTRIES} set amount = amount - 1, quantity = quantity + 1 where {UNSEALED}",
        {SUM, CHAIN},
    ),
    ("sealed metadata", f"update {ENTRIES} set metadata = '{{}}' where {SEALED}", {SEAL}),
    (
        "sealed time",
        f"update {ENTRIES} set created_at = created_at - interval '1 day' where {SEALED}",
        {SEAL},
    ),
    ("sealed actor", f"update {ENTRIES} set actor = 'someone' where {SEALED}", {SEAL}),
    ("first row deleted", f"delete from {ENTRIES} where {FIRST}", {SUM, CHAIN, SEAL, NUMBERS}),
    ("middle row deleted", f"delete from {ENTRIES} where {SEALED}", {SUM, CHAIN, SEAL, NUMBERS}),
    ("unsealed row deleted", f"delete from {ENTRIES} where {UNSEALED}", {SUM, CHAIN, NUMBERS}),
    ("last row deleted", f"delete from {ENTRIES} where {LAST}", {SUM, TOTALS, NEWEST}),
    (
        "row inserted at the end",
        f"insert into {ENTRIES} (id, {COPIED}, balance_after) "
        f"select id + 1, {COPIED}, balance_after + amount from {ENTRIES} where {LAST}",
        {SUM, TOTALS, NEWEST},
    ),
    (
        "row inserted before the first",
        f"insert into {ENTRIES} (id, {COPIED}, balance_after) "
        f"select 0, {COPIED}, balance_after from {ENTRIES} where {SEALED}",
        {SUM, CHAIN, NUMBERS},
    ),
    (
        "rows numbered anew after one was deleted",
        f"delete from {ENTRIES} where {SEALED};"
        f"update {ENTRIES} set id = id - 1 where {MINE} and id > 3;"
        f"update public.credit_accounts set last_entry = last_entry - 1 where id = {ME}",
        {SUM, CHAIN, SEAL},
    ),
    (
        "row moved to another account",
        f"update {ENTRIES} set account_id = {OTHER}, id = id + 1 where {LAST}",
        {SUM, TOTALS, NEWEST},
    ),
    ("clawback's cause", "delete from credits.clawbacks", {"each clawback says why it was made"}),
    (
        "clawback's cause elsewhere",
        "update credits.clawbacks set transaction_id = transaction_id - 1",
        {"each clawback says why it was made"},
    ),
    ("balance", "update public.credit_accounts set balance = balance + 100", {SUM}),
    ("held", "update public.credit_accounts set held = held - 1", {"held is the sum of the open holds"}),
    ("lifetime total", "update public.credit_accounts set lifetime_spent = lifetime_spent - 1", {TOTALS}),
    (
        "balance and the row that says so",
        f"update {ENTRIES} set balance_after = balance_after + 7, amount = amount + 7 where {FIRST};"
        "update public.credit_accounts set balance = balance + 7",
        {CHAIN, SEAL, TOTALS},
    ),
    (
        "lot's remaining",
        "update credits.credit_grants set remaining = remaining - 1 where remaining > 0",
        {REMAINS},
    ),
    (
        "lot's amount",
        "update credits.credit_grants set amount = amount + 1, remaining = remaining + 1",
        {LOTS, "lots less unpaid debits are the balance"},
    ),
    (
        "lot deleted",
        "delete from credits.credit_grants where id = (select max(id) from credits.credit_grants)",
        {"lots less unpaid debits are the balance"},
    ),
    (
        "lots numbered anew",
        "update credits.credit_grants set id = id + 10",
        {"lots are numbered without a gap", "an allocation joins a lot and a ledger row of its account"},
    ),
    (
        "allocation moved to another account",
        f"update credits.lot_payments set account_id = {OTHER}, number = number + 99 where {MINE}",
        {REMAINS},
    ),
    (
        "capture's hold of another account",
        f"update public.credit_holds set account_id = {OTHER} where {MINE} and status = 'captured'",
        {"a captured hold has one capture, within what was held", "a capture names a hold"},
    ),
    (
        "allocation's amount",
        "update credits.lot_payments set first_amount = first_amount + 1, last_amount = last_amount + 1",
        {REMAINS, LOTS},
    ),
    ("allocation deleted", "delete from credits.lot_payments", {REMAINS, LOTS}),
    (
        "newest allocation cut off",
        "update credits.lot_payments set last_id = first_id, last_amount = first_amount "
        "where first_id < last_id",
        {REMAINS, LOTS},
    ),
    (
        "allocation of another lot",
        "update credits.lot_payments p set grant_id = grant_id + 1 where exists (select from "
        "credits.credit_grants g where g.account_id = p.account_id and g.id = p.grant_id + 1)",
        {REMAINS},
    ),
    (
        "allocation of no lot",
        "update credits.lot_payments set grant_id = 99",
        {REMAINS, "an allocation joins a lot and a ledger row of its account"},
    ),
    (
        "allocation of a row that is none",
        "update credits.lot_payments set first_id = 1",
        {"an allocation joins a lot and a ledger row of its account"},
    ),
    (
        "allocation that ends at a row that is none",
        "update credits.lot_payments set last_id = 99",
        {"an allocation joins a lot and a ledger row of its account"},
    ),
    ("returned credits", "update credits.lot_returns set amount = amount + 1", {REMAINS, LOTS}),
    ("returned credits deleted", "delete from credits.lot_returns", {REMAINS, LOTS}),
    (
        "keyed holds denied",
        "update public.credit_holds set idempotency_key = id::text, request_hash = sha256('x')",
        {"the account knows that holds have keys"},
    ),
    (
        "hold's amount",
        "update public.credit_holds set amount = amount + 1, quantity = quantity + 1 where status = 'held'",
        {"held is the sum of the open holds"},
    ),
    (
        "hold reopened",
        "update public.credit_holds set status = 'held', closed_at = null, transaction_id = null "
        "where status = 'captured'",
        {"held is the sum of the open holds", "a captured hold has one capture, within what was held"},
    ),
    ("seal's hash", "update credits.ledger_seals set hash = sha256(hash)", {SEAL}),
    ("seal's count", "update credits.ledger_seals set entries = entries + 1 where number = 2", {SEAL}),
    (
        "last seal deleted",
        "delete from credits.ledger_seals s where number = (select max(number) from credits.ledger_seals)",
        {"the account is settled through its last seal"},
    ),
    (
        "two sealed rows changed places",
        f"update {ENTRIES} t set metadata = o.metadata, created_at = o.created_at "
        f"from {ENTRIES} o where t.account_id = o.account_id and t.id in (3, 4) and o.id = 7 - t.id",
        {SEAL},
    ),
    (
        "a row moved to the next seal",
        "update credits.ledger_seals set through_id = through_id - 1, entries = entries - 1 where number = 2",
        {SEAL},
    ),
    (
        "two seals made one",
        "delete from credits.ledger_seals where number = 2;"
        "update credits.ledger_seals s set number = number + 100 where number > 2;"
        "update credits.ledger_seals s set number = number - 101 where number > 100",
        {SEAL},
    ),
    ("seal's format", "update credits.ledger_seals set format = 2 where number = 1", {SEAL, FORMAT}),
    (
        "seal's salt",
        "update credits.ledger_seals set salt = gen_random_uuid() where salt is not null",
        {SEAL},
    ),
    ("seal's salt deleted", "update credits.ledger_seals set salt = null where salt is not null", {SEAL}),
    (
        "sealed text, blanked",
        f"update {ENTRIES} set metadata = '{{}}', idempotency_key = null where {SEALED}",
        {SEAL},
    ),
    ("sealed key", f"update {ENTRIES} set idempotency_key = 'other' where {SEALED}", {SEAL}),
    ("text where none was", f"update {ENTRIES} set metadata = '{{\"a\": 1}}' where {FIRST}", {SEAL}),
    (
        "text where one was erased",
        f"update {ENTRIES} set metadata = '{{\"a\": 1}}' where {ERASED}",
        {"an erased row has no text"},
    ),
    (
        "digest of an erased text",
        "update credits.sealed_texts set digest = sha256(digest) where digest is not null",
        {SEAL},
    ),
    ("record of an erasure deleted", "delete from credits.sealed_texts where digest is not null", {SEAL}),
    ("salt beside an erased text", "delete from credits.sealed_texts where salt is not null", {SEAL}),
    (
        "text blanked and called erased",
        f"insert into credits.sealed_texts select account_id, id, null, '\\x00', now(), 'x' from {ENTRIES} "
        f"where {SEALED}; update {ENTRIES} set metadata = '{{}}' where {SEALED}",
        {SEAL},
    ),
    (
        "expiry dated before its lot expired",
        f"update {ENTRIES} set created_at = created_at - interval '1 second' where kind = 'expiry'",
        {SEAL, "an expiry is not dated before its lot expired"},
    ),
    ("first seal deleted", "delete from credits.ledger_seals where number = 1", {SEAL}),
    (
        "expiry hidden",
        "update public.credit_accounts set next_expiry = null",
        {"next_expiry is not later than what expires next"},
    ),
    (
        "maintenance kept away",
        "update public.credit_accounts set unsettled_since = null",
        {"maintenance knows of every unsettled account"},
    ),
    (
        "unsettled rows counted wrongly",
        "update public.credit_accounts set last_entry = last_entry + 1",
        {"maintenance knows of every unsettled account", NEWEST},
    ),
    ("account deleted", "delete from public.credit_accounts", {"every ledger row has an account"}),
]


@pytest.mark.parametrize(("statement", "finds"), [x[1:] for x in TAMPERINGS], ids=[x[0] for x in TAMPERINGS])
def test_tampering_is_found(lived: Ledger, statement: str, finds: set[str]) -> None:
    with lived.connection.transaction(force_rollback=True):
        lived.rows("set local session_replication_role = replica")
        for one in statement.split(";"):
            assert lived.connection.execute(one.encode()).rowcount > 0
        assert finds <= set(lived.broken())
    assert lived.broken() == []


def test_each_users_own_check_finds_theirs_only(lived: Ledger) -> None:
    users = [str(row["user_id"]) for row in lived.rows("select user_id from public.credit_accounts")]
    with lived.connection.transaction(force_rollback=True):
        lived.rows("set local session_replication_role = replica")
        lived.rows("update public.credit_accounts set balance = balance + 1 where user_id = %s", users[0])
        assert lived.broken(users[0])
        assert lived.broken(users[1]) == []


@pytest.mark.parametrize(
    "table",
    ["public.credit_transactions", "credits.lot_payments", "credits.lot_returns", "credits.ledger_seals"],
)
def test_append_only_tables_refuse_even_their_owner(lived: Ledger, table: str) -> None:
    for attempt in (
        f"delete from {table}",
        f"truncate {table} cascade",
        f"update {table} set account_id = account_id",
    ):
        with pytest.raises(Refused) as caught:
            lived.rows(attempt)
        assert caught.value.code == "PT403"
        assert "append-only" in caught.value.message


OTHER_VALUES = {
    "bigint": "coalesce({}, 0) + 1000000", "integer": "coalesce({}, 0) + 1", "numeric": "coalesce({}, 0) + 1",
    "text": "coalesce({}, '') || 'x'", "uuid": "gen_random_uuid()", "bytea": "coalesce({}, '') || '\\x00'",
    "jsonb": "{} || '{{\"x\": 1}}'", "timestamp with time zone": "{} + interval '1 hour'",
    "transaction_kind": "case {} when 'spend' then 'expiry' else 'spend' end::public.transaction_kind",
}  # fmt: skip


def test_a_seal_covers_every_column(lived: Ledger) -> None:
    """A column that is new has to be in credits.ledger_line, or to be left out here with a reason."""
    columns = lived.rows(
        "select a.attname::text as name, a.atttypid::regtype::text as type from pg_attribute as a "
        "where a.attrelid = 'public.credit_transactions'::regclass and a.attnum > 0 and not a.attisdropped"
    )
    assert len(columns) > 10
    missed = []
    for column in columns:
        with lived.connection.transaction(force_rollback=True):
            lived.rows("set local session_replication_role = replica")
            value = OTHER_VALUES[column["type"].removeprefix("public.")].format(column["name"])
            done = lived.connection.execute(
                f"update public.credit_transactions set {column['name']} = {value} "
                "where (account_id, id) = (select t.account_id, t.id from public.credit_transactions as t "
                "join public.credit_accounts as a on a.id = t.account_id "
                "where t.id <= a.settled_through and t.kind = 'spend' limit 1)".encode()
            )
            assert done.rowcount == 1
            if "each seal matches its ledger rows" not in lived.broken():
                missed.append(column["name"])
    assert missed == []
