"""What callers wrote is erased for good; the seals stay whole, and all that is money stays as it was."""

import json
import uuid
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.support.clock import DAY, MINUTE
from tests.support.ledger import Ledger, Refused, buyer, lot, small_batches
from tests.support.studio import Studio

ANN = "ann@example.com"


def account_of(ledger: Ledger, user: str) -> str:
    return str(ledger.account(user)["id"])


def money(ledger: Ledger, account: str) -> Any:
    """All of the account that is no text."""
    return ledger.rows(
        "select to_jsonb(t) - 'idempotency_key' - 'metadata' as row from public.credit_transactions as t "
        "where account_id = %s order by id",
        account,
    )


def remembered(ledger: Ledger, word: str) -> list[str]:
    """The tables that have the word somewhere in them, digests of it included that can be made by trying."""
    found = []
    for row in ledger.rows(
        "select c.oid::regclass::text as name from pg_class as c "
        "where c.relkind = 'r' and c.relnamespace in ('public'::regnamespace, 'credits'::regnamespace)"
    ):
        query = sql.SQL("select count(*) from {} as t where to_jsonb(t)::text like {}").format(
            sql.SQL(row["name"]), f"%{word}%"
        )
        if ledger.value(query.as_string(ledger.connection)):
            found.append(row["name"])
    return sorted(found)


def test_one_row(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 100)
    account = account_of(ledger, user)
    for number in range(4):
        ledger.as_user(
            user, "consume_credits", operation="one", idempotency_key=f"{number} {ANN}", metadata={"to": ANN}
        )
    before = money(ledger, account)
    # Not settled yet, and settled.
    for number in (3, 3, 4):
        row = ledger.as_service("erase_transaction_text", account_id=account, transaction_id=number)
        assert (row["id"], row["idempotency_key"], row["metadata"]) == (number, None, {})
        assert ledger.broken() == []
    assert money(ledger, account) == before
    kept = ledger.rows(
        "select id, idempotency_key, metadata from public.credit_transactions where id in (2, 5)"
    )
    assert [(row["idempotency_key"], row["metadata"]) for row in kept] == [
        (f"0 {ANN}", {"to": ANN}),
        (f"3 {ANN}", {"to": ANN}),
    ]
    texts = ledger.rows("select * from credits.sealed_texts order by transaction_id")
    assert [(row["transaction_id"], row["digest"] is not None) for row in texts] == [
        (2, False), (3, True), (4, True), (5, False),
    ]  # fmt: skip
    assert [row["erased_by"] for row in texts] == [None, "postgres", "postgres", None]
    assert ledger.value("select count(*) from credits.ledger_seals where salt is not null") == 0


def test_nothing_is_left_to_guess_an_erased_text_by(own_ledger: Ledger) -> None:
    """Whoever has the whole database and guesses the text cannot tell whether the guess is right."""
    ledger, user = own_ledger, buyer(own_ledger, 100)
    account = account_of(ledger, user)
    spent = ledger.as_user(user, "consume_credits", operation="one", idempotency_key=ANN)
    other = ledger.as_user(user, "consume_credits", operation="one", idempotency_key="other")
    ledger.settle(user)
    salt = ledger.value("select salt from credits.ledger_seals where salt is not null")
    # Until then the salt of the seal tells.
    guess = (
        "select count(*) from credits.sealed_texts as x join public.credit_transactions as t "
        "on t.account_id = x.account_id and t.id = x.transaction_id "
        "where x.digest = sha256(credits.text_salt(%s, t.id) "
        f"|| convert_to(row('{ANN}', t.metadata)::text, 'UTF8'))"
    )
    ledger.as_service("erase_transaction_text", account_id=account, transaction_id=spent["id"])
    assert ledger.value(guess, salt) == 1
    assert remembered(ledger, str(salt)) == []
    # What the other row needs is no way back to it.
    kept = ledger.rows("select salt from credits.sealed_texts where transaction_id = %s", other["id"])
    assert kept == [{"salt": ledger.value("select credits.text_salt(%s, %s)", salt, other["id"])}]


def test_a_whole_account(own_ledger: Ledger) -> None:
    studio, ledger = Studio(own_ledger), own_ledger
    small_batches(ledger, 3)
    user, other = ledger.sign_up(), buyer(ledger, 100)
    account = account_of(ledger, user)
    lot(ledger, user, 50, MINUTE)
    ledger.as_service(
        "grant_credits", user_id=user, amount=100, source="purchase", idempotency_key=f"order of {ANN}",
        metadata={"who": ANN},
    )  # fmt: skip
    for number in range(5):
        spent = ledger.as_user(user, "consume_credits", operation="one", metadata={"n": number, "to": ANN})
    ledger.as_service(
        "refund",
        account_id=account,
        transaction_id=spent["id"],
        reason=f"{ANN} asked",
        idempotency_key=f"for {ANN}",
    )
    ledger.as_user(other, "consume_credits", operation="one", metadata={"to": ANN})
    used, unused, still = (
        ledger.as_user(
            user, "hold_credits", operation="one", idempotency_key=f"{n} {ANN}", metadata={"to": ANN}
        )
        for n in range(3)
    )
    ledger.as_service("capture_hold", account_id=account, hold_id=used["id"], metadata={"of": ANN})
    ledger.as_service("release_hold", account_id=account, hold_id=unused["id"], reason=f"{ANN} left")
    operation = studio.operation()
    done, running = (studio.begin(user, operation, key=f"{n} {ANN} paints")["id"] for n in range(2))
    for job in (done, running):
        studio.service("dispatch_generation", job)
    studio.finish(done, "succeeded", 1)
    ledger.pass_time(2 * MINUTE)  # the first lot expires
    before, seen = money(ledger, account), ledger.as_user(user, "my_credits")

    told = ledger.as_service("erase_account_text", account_id=account)
    assert told == {"transactions": 9, "holds": 3, "open": 2}
    assert ledger.broken() == []
    now = money(ledger, account)
    assert now[: len(before)] == before
    assert [row["row"]["kind"] for row in now[len(before) :]] == ["expiry"]
    assert ledger.as_user(user, "my_credits") == seen
    assert remembered(ledger, f"order of {ANN}") == remembered(ledger, f"{ANN} asked") == []
    # What is under way keeps its key until it has ended; the other account keeps all of its.
    ledger.as_service("release_hold", account_id=account, hold_id=still["id"])
    studio.finish(running, "failed")
    assert ledger.as_service("erase_account_text", account_id=account) == {
        "transactions": 0,
        "holds": 2,
        "open": 0,
    }
    assert remembered(ledger, ANN) == ["credit_transactions"]
    assert ledger.value("select count(*) from public.credit_holds where request_hash is not null") == 0
    theirs = ledger.rows(
        "select account_id::text from public.credit_transactions where metadata::text ~ %s", ANN
    )
    assert theirs == [{"account_id": account_of(ledger, other)}]
    assert ledger.as_user(user, "my_generation", job_id=done)["status"] == "succeeded"
    assert ledger.broken() == []


def test_what_the_ledger_wrote_stays(own_ledger: Ledger) -> None:
    """A bonus comes once whatever is erased, and a clawback keeps its cause."""
    ledger = own_ledger
    ledger.rows("update credits.billing_settings set signup_bonus = 7")
    user = ledger.sign_up()
    account = account_of(ledger, user)
    ledger.rows(
        "select credits.claw_back(a.id, 3, metadata => '{\"purchase\": 1}', cause => 'debt_taken_over', "
        "other_account_id => a.id) from public.credit_accounts as a where a.id = %s",
        account,
    )
    ledger.value("select credits.give_back(%s, 2, 1, '{\"purchase\": 1}')", account)
    assert ledger.as_service("erase_account_text", account_id=account)["transactions"] == 0
    row = ledger.as_service("erase_transaction_text", account_id=account, transaction_id=1)
    assert row["idempotency_key"] == "sys:signup_bonus"
    texts = ledger.rows(
        "select metadata from public.credit_transactions where account_id = %s order by id", account
    )
    assert [text["metadata"] for text in texts] == [{}, {"purchase": 1}, {"purchase": 1}]
    assert ledger.value("select count(*) from credits.sealed_texts") == 0


def test_what_an_operator_wrote_of_a_clawback(own_ledger: Ledger) -> None:
    ledger, user = own_ledger, buyer(own_ledger, 10)
    account = account_of(ledger, user)
    ledger.value("select credits.claw_back(%s, 3, null, 'ticket', '{\"of\": \"ann\"}')", account)
    ledger.value('select credits.give_back(%s, 2, 1, \'{"of": "ann"}\')', account)
    assert ledger.as_service("erase_account_text", account_id=account)["transactions"] == 2
    assert ledger.broken() == []


def test_an_erased_key_is_a_new_one(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    spend: dict[str, Any] = {"operation": "one", "idempotency_key": "mine"}
    first = ledger.as_user(user, "consume_credits", **spend)
    assert ledger.as_user(user, "consume_credits", **spend) == first
    ledger.as_service("erase_transaction_text", account_id=first["account_id"], transaction_id=first["id"])
    again = ledger.as_user(user, "consume_credits", **spend)
    assert (again["id"], again["balance_after"]) == (first["id"] + 1, 8)
    assert ledger.as_user(user, "consume_credits", **spend) == again
    assert ledger.broken(user) == []


def test_rows_that_are_not_there(ledger: Ledger) -> None:
    user, other = buyer(ledger, 10), buyer(ledger, 10)
    for _ in range(3):
        theirs = ledger.as_user(other, "consume_credits", operation="one", metadata={"a": 1})
    for account, transaction in (
        (account_of(ledger, user), theirs["id"]),
        (str(uuid.uuid4()), 1),
        (None, None),
    ):
        with pytest.raises(Refused) as caught:
            ledger.as_service("erase_transaction_text", account_id=account, transaction_id=transaction)
        assert (caught.value.code, caught.value.details) == (
            "PT404",
            {"account_id": account, "transaction_id": transaction},
        )
    for unknown in (str(uuid.uuid4()), None):
        with pytest.raises(Refused, match="PT404"):
            ledger.as_service("erase_account_text", account_id=unknown)
    assert ledger.value(
        "select metadata from public.credit_transactions where account_id = %s and id = %s",
        theirs["account_id"], theirs["id"],
    ) == {"a": 1}  # fmt: skip


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_users_cannot_erase(ledger: Ledger, role: str) -> None:
    """Not even what is theirs: it is the operator's evidence."""
    user = buyer(ledger, 10)
    spent = ledger.as_user(user, "consume_credits", operation="one", metadata={"a": 1})
    for function, names in (
        ("erase_transaction_text", {"account_id": spent["account_id"], "transaction_id": spent["id"]}),
        ("erase_account_text", {"account_id": spent["account_id"]}),
    ):
        with pytest.raises(Refused) as caught:
            ledger.call(role, user if role == "authenticated" else None, function, **names)
        assert caught.value.code == "42501"


def test_nobody_blanks_a_text_otherwise(ledger: Ledger) -> None:
    """Not even the owner, and not more than the text of a row that was erased."""
    user = buyer(ledger, 10)
    account = account_of(ledger, user)
    for number in range(2):
        ledger.as_user(user, "consume_credits", operation="one", metadata={"n": number})
    ledger.settle(user)
    blank = "update public.credit_transactions set idempotency_key = null, metadata = '{}'"
    mine = f"where account_id = '{account}' and id"
    for attempt in (
        f"{blank} {mine} = 2",
        f"update credits.ledger_seals set salt = null where account_id = '{account}' and salt is not null",
        f"delete from credits.ledger_seals where account_id = '{account}'",
    ):
        with pytest.raises(Refused, match="append-only") as caught:
            ledger.rows(attempt)
        assert caught.value.code == "PT403"
    ledger.as_service("erase_transaction_text", account_id=account, transaction_id=2)
    for attempt in (
        f"{blank}, amount = -2 {mine} = 2",
        f"update public.credit_transactions set metadata = '{{\"n\": 5}}' {mine} = 2",
        f"{blank} {mine} = 3",
        "update credits.sealed_texts set digest = sha256(digest) "
        f"where account_id = '{account}' and digest is not null",
        f"update credits.sealed_texts set salt = '' where account_id = '{account}' and salt is not null",
        f"delete from credits.sealed_texts where account_id = '{account}'",
        "truncate credits.sealed_texts",
    ):
        with pytest.raises(Refused, match="append-only") as caught:
            ledger.rows(attempt)
        assert caught.value.code == "PT403"
    assert ledger.broken(user) == []


def test_nobody_blanks_what_the_ledger_wrote(own_ledger: Ledger) -> None:
    """Whoever could take a bonus's or a payment's key away could have it come again. Not even the owner, who can
    write that it was erased.
    """
    ledger = own_ledger
    ledger.rows("update credits.billing_settings set signup_bonus = 7")
    account = account_of(ledger, ledger.sign_up())
    ledger.value("select credits.claw_back(%s, 3, null, 'ticket', '{\"of\": \"ann\"}')", account)
    ledger.value(
        "select credits.claw_back(%s, 1, metadata => '{\"purchase\": 1}', cause => 'debt_taken_over', "
        "other_account_id => %s)",
        account, account,
    )  # fmt: skip
    ledger.rows(
        "insert into credits.sealed_texts (account_id, transaction_id, digest, erased_at, erased_by) "
        "select account_id, id, '\\x00', now(), 'me' from public.credit_transactions"
    )
    blank = "update public.credit_transactions set idempotency_key = null, metadata = '{}' where id = %s"
    unsalt = "update credits.ledger_seals set salt = null where through_id = %s and salt is not null"
    salted = ledger.rows("select through_id from credits.ledger_seals where salt is not null order by 1")
    assert [row["through_id"] for row in salted] == [1, 2, 3]
    for number in (1, 3):
        for attempt in (blank, unsalt):
            with pytest.raises(Refused, match="append-only") as caught:
                ledger.rows(attempt, number)
            assert caught.value.code == "PT403"
    for attempt in (unsalt, blank):  # an operator's clawback is a caller's
        ledger.rows(attempt, 2)
    keys = ledger.rows("select idempotency_key from public.credit_transactions order by id")
    assert [row["idempotency_key"] for row in keys] == ["sys:signup_bonus", None, None]


def test_a_row_without_text_has_no_salt(own_ledger: Ledger) -> None:
    user = buyer(own_ledger, 10)
    own_ledger.as_user(user, "consume_credits", operation="one")
    own_ledger.settle(user)
    assert own_ledger.value("select count(*) from credits.ledger_seals where salt is not null") == 0
    own_ledger.as_user(user, "consume_credits", operation="one", metadata={"n": 1})
    own_ledger.settle(user)
    assert own_ledger.value("select count(*) from credits.ledger_seals where salt is not null") == 1


def test_while_others_spend(own_ledger: Ledger) -> None:
    """An erasure waits for a spend that is under way, and takes its text as well."""
    ledger, user = own_ledger, buyer(own_ledger, 10)
    account = account_of(ledger, user)
    with psycopg.connect(ledger.connection.info.dsn, password="postgres") as session:
        session.execute(
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
            (json.dumps({"role": "authenticated", "sub": user, "aud": "authenticated", "exp": 8204889600}),),
        )
        session.execute("select public.consume_credits('one', metadata => '{\"to\": \"ann\"}')")
        ledger.rows("set lock_timeout = '200ms'")
        with pytest.raises(Refused, match="55P03"):
            ledger.as_service("erase_account_text", account_id=account)
    assert ledger.as_service("erase_account_text", account_id=account)["transactions"] == 1
    assert ledger.broken() == []


def test_a_column_that_comes_later_breaks_no_old_seal(own_ledger: Ledger) -> None:
    """Appended where it is not null, as credits.ledger_line says; and a new format where a line changes."""
    ledger, user = own_ledger, buyer(own_ledger, 10)
    old = ledger.as_user(user, "consume_credits", operation="one", metadata={"to": ANN})
    ledger.settle(user)
    body = ledger.value("select prosrc from pg_proc where oid = 'credits.ledger_line'::regproc")
    ledger.rows("alter table public.credit_transactions add column region text")
    line = body.replace("\n  end;", " || coalesce(' region=' || entry.region, '')\n  end;")
    replace = (
        "create or replace function credits.ledger_line("
        "entry public.credit_transactions, format smallint, text_digest bytea) "
        "returns text language sql stable as $$ {} $$"
    )
    ledger.rows(replace.format(line))
    assert ledger.broken() == []
    ledger.rows("alter table public.credit_transactions alter column region set default 'eu'")
    ledger.as_user(user, "consume_credits", operation="one")
    ledger.settle(user)
    assert ledger.broken() == []

    # Format 2 writes all of it otherwise.
    second = line.replace(
        "\n  end;", "\n    when 2 then format('2 %%s %%s', entry::text, encode(text_digest, 'hex'))\n  end;"
    )
    ledger.rows(replace.format(second.replace("%%", "%")))
    ledger.rows(
        "create or replace function credits.seal_format() returns smallint language sql immutable "
        "as 'select 2::smallint'"
    )
    ledger.as_user(user, "consume_credits", operation="one", metadata={"n": 2})
    ledger.settle(user)
    assert [row["format"] for row in ledger.rows("select format from credits.ledger_seals order by number")][
        -2:
    ] == [1, 2]
    assert ledger.broken() == []
    ledger.as_service("erase_transaction_text", account_id=old["account_id"], transaction_id=old["id"])
    assert ledger.broken() == []
    ledger.rows("alter table public.credit_transactions disable trigger only_erased")
    for number in (3, 4):
        with ledger.connection.transaction(force_rollback=True):
            ledger.rows("update public.credit_transactions set region = 'us' where id = %s", number)
            assert ledger.broken() == ["each seal matches its ledger rows"]


@pytest.mark.parametrize("days", [1, 400])
def test_an_account_whose_user_is_gone(ledger: Ledger, days: int) -> None:
    user = buyer(ledger, 10)
    account = account_of(ledger, user)
    ledger.as_user(user, "consume_credits", operation="one", metadata={"to": ANN})
    ledger.rows("delete from auth.users where id = %s", user)
    ledger.pass_time(days * DAY)
    assert ledger.as_service("erase_account_text", account_id=account)["transactions"] == 1
