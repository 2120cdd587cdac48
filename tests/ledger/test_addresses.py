"""What follows a person's address: the bonus is paid once, and debt and freeze outlive the account's user."""

import hashlib
import hmac
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from scripts.local.stack import Stack
from tests.support.ledger import Ledger, Refused
from tests.support.stack import Database


@pytest.fixture
def paying(own_ledger: Ledger) -> Ledger:
    """A ledger that pays a bonus of 10."""
    own_ledger.rows("update credits.billing_settings set signup_bonus = 10")
    return own_ledger


def leave(ledger: Ledger, user: str) -> str:
    """Delete the user as Auth does. Returns the account that stays."""
    account: str = ledger.value("select id from public.credit_accounts where user_id = %s", user)
    ledger.rows("delete from auth.users where id = %s", user)
    return account


def bonuses(ledger: Ledger) -> int:
    count: int = ledger.value(
        "select count(*) from public.credit_transactions where idempotency_key = 'sys:signup_bonus'"
    )
    return count


def balance(ledger: Ledger, user: str) -> int:
    return int(ledger.account(user)["balance"])


def total(ledger: Ledger) -> int:
    """What all accounts have, and owe, together."""
    return int(ledger.value("select sum(balance) from public.credit_accounts"))


# -- the bonus ---------------------------------------------------------------------------------------


def test_it_comes_when_the_address_is_confirmed(paying: Ledger) -> None:
    user = paying.sign_up(confirmed=False)
    assert paying.rows("select from public.credit_accounts") == []
    for _ in range(3):
        paying.rows("update auth.users set email_confirmed_at = now() where id = %s", user)
    assert balance(paying, user) == 10
    paying.rows("update auth.users set email_confirmed_at = null where id = %s", user)
    paying.rows("update auth.users set email_confirmed_at = now() where id = %s", user)
    assert (balance(paying, user), bonuses(paying), paying.broken()) == (10, 1, [])


def test_a_grant_before_the_confirmation_neither_brings_nor_costs_it(paying: Ledger) -> None:
    user = paying.sign_up(confirmed=False)
    paying.as_service("grant_credits", user_id=user, amount=5, source="promo")
    assert balance(paying, user) == 5
    paying.rows("update auth.users set email_confirmed_at = now() where id = %s", user)
    assert balance(paying, user) == 15


def test_a_phone_number_is_an_address(paying: Ledger) -> None:
    def sign_up(phone: str) -> str:
        made = str(uuid.uuid4())
        paying.rows(
            "insert into auth.users (id, phone, phone_confirmed_at) values (%s, %s, now())", made, phone
        )
        return made

    first = sign_up("41791234567")
    assert balance(paying, first) == 10
    leave(paying, first)
    assert balance(paying, sign_up("+41 79 123 45 67")) == 0


def test_users_without_an_address_get_none(paying: Ledger) -> None:
    """Such as those who sign in with a wallet."""
    user = str(uuid.uuid4())
    paying.rows("insert into auth.users (id) values (%s)", user)
    with pytest.raises(Refused) as refused:
        paying.as_user(user, "consume_credits", operation="one")
    assert refused.value.code == "PT402"
    paying.as_service("grant_credits", user_id=user, amount=5, source="purchase")
    assert paying.as_user(user, "consume_credits", operation="one")["balance_after"] == 4


@pytest.mark.parametrize(
    ("first", "second", "is_one"),
    [
        ("ann@example.com", "ann@example.com", True),
        ("ann@example.com", "Ann+2@Example.COM ", True),
        ("a.n.n+x@gmail.com", "ann@googlemail.com", True),
        ("a.nn@example.com", "ann@example.com", False),
        ("+a@example.com", "+b@example.com", False),
        ("ann@example.com", "ann@example.org", False),
    ],
)
def test_an_address_gets_it_once(paying: Ledger, first: str, second: str, is_one: bool) -> None:
    leave(paying, paying.sign_up(first))
    again = paying.sign_up(second)
    assert balance(paying, again) == (0 if is_one else 10)
    assert paying.broken() == []


def test_each_of_an_accounts_addresses_counts(paying: Ledger) -> None:
    user = paying.sign_up("one@example.com")
    paying.rows("update auth.users set email = 'two@example.com' where id = %s", user)
    assert (balance(paying, user), bonuses(paying)) == (10, 1)
    assert balance(paying, paying.sign_up("one@example.com")) == 0
    leave(paying, user)
    assert balance(paying, paying.sign_up("two@example.com")) == 0


def test_a_bonus_of_nothing_is_not_one(paying: Ledger) -> None:
    paying.rows("update credits.billing_settings set signup_bonus = 0")
    leave(paying, paying.sign_up("ann@example.com"))
    paying.rows("update credits.billing_settings set signup_bonus = 10")
    assert balance(paying, paying.sign_up("ann@example.com")) == 10


def test_ten_sign_ups_of_one_mailbox_at_once(paying: Ledger, own_db: Database) -> None:
    barrier = threading.Barrier(10)

    def sign_up(n: int) -> str:
        with Ledger(psycopg.connect(own_db.url, autocommit=True)) as session:
            barrier.wait()
            user = session.sign_up(f"ann+{n}@example.com")
            session.rows("update auth.users set email_confirmed_at = now() where id = %s", user)
            if n % 3 == 0:
                leave(session, user)
            return user

    with ThreadPoolExecutor(10) as threads:
        users = list(threads.map(sign_up, range(10)))
    for user in users:
        if paying.value("select count(*) from auth.users where id = %s", user):
            paying.rows("select credits.open_account(%s)", user)
    assert (bonuses(paying), total(paying), paying.broken()) == (1, 10, [])


def test_a_sign_up_does_not_wait_for_another_session(paying: Ledger, own_db: Database) -> None:
    with psycopg.connect(own_db.url) as other:
        made = str(uuid.uuid4())
        other.execute(
            "insert into auth.users (id, email, email_confirmed_at) values (%s, 'ann+1@example.com', now())",
            [made],
        )
        second = paying.sign_up("ann+2@example.com")  # within 2 s, and without its account
        assert paying.rows("select from public.credit_accounts") == []
        other.commit()
    paying.as_service("grant_credits", user_id=second, amount=5, source="promo")
    assert (balance(paying, made), balance(paying, second)) == (10, 5)


def test_a_change_of_address_is_never_refused(paying: Ledger) -> None:
    user = paying.sign_up(confirmed=False)
    paying.rows("alter table public.credit_accounts add constraint broken check (balance > 5) not valid")
    paying.rows("update auth.users set email_confirmed_at = now() where id = %s", user)
    assert paying.rows("select from public.credit_accounts") == []
    paying.rows("alter table public.credit_accounts drop constraint broken")
    assert paying.as_user(user, "consume_credits", operation="one")["balance_after"] == 9


# -- anonymous users ---------------------------------------------------------------------------------


def anonymous(ledger: Ledger) -> str:
    made = str(uuid.uuid4())
    ledger.rows("insert into auth.users (id, is_anonymous) values (%s, true)", made)
    return made


def test_anonymous_users_hold_nothing(paying: Ledger) -> None:
    guest = anonymous(paying)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("consume_credits", {"operation": "one"}),
        ("consume_credits", {"operation": "one", "idempotency_key": "k"}),
        ("hold_credits", {"operation": "one"}),
        ("begin_generation", {"operation": "one", "quantity": 1, "request": "0" * 64}),
        ("prepare_checkout", {"package": "starter"}),
    ]
    for function, arguments in calls:
        with pytest.raises(Refused) as refused:
            paying.as_user(guest, function, **arguments)
        assert (refused.value.code, refused.value.message[:14]) == ("PT403", "Sign up first:"), function
    with pytest.raises(Refused) as refused:
        paying.as_service("grant_credits", user_id=guest, amount=5, source="promo")
    assert refused.value.code == "PT403"
    assert paying.rows("select from public.credit_accounts") == []
    assert paying.as_user(guest, "quote_credits", operation="one")["affordable"] is False

    # An address that is not confirmed yet changes nothing; the confirmed one makes the user permanent.
    paying.rows("update auth.users set email_change = 'ann@example.com' where id = %s", guest)
    paying.rows("update auth.users set email = 'ann@example.com' where id = %s", guest)
    assert paying.rows("select from public.credit_accounts") == []
    for _ in range(2):
        paying.rows(
            "update auth.users set email_confirmed_at = now(), is_anonymous = false where id = %s", guest
        )
    assert (balance(paying, guest), bonuses(paying)) == (10, 1)


def test_where_they_may_they_hold_grants_and_no_bonus(paying: Ledger) -> None:
    paying.rows("update credits.billing_settings set anonymous_credits = true")
    guest = anonymous(paying)
    paying.rows(
        "update auth.users set email_confirmed_at = now(), email = 'a@example.com' where id = %s", guest
    )
    with pytest.raises(Refused) as refused:
        paying.as_user(guest, "consume_credits", operation="one")
    assert refused.value.code == "PT402"
    paying.as_service("grant_credits", user_id=guest, amount=3, source="promo")
    paying.as_user(guest, "consume_credits", operation="one")
    # Taken back: what they have they may spend, and get no more.
    paying.rows("update credits.billing_settings set anonymous_credits = false")
    assert paying.as_user(guest, "consume_credits", operation="one")["balance_after"] == 1
    with pytest.raises(Refused) as refused:
        paying.as_service("grant_credits", user_id=guest, amount=3, source="promo")
    assert refused.value.code == "PT403"
    paying.rows("update auth.users set is_anonymous = false where id = %s", guest)
    assert (balance(paying, guest), bonuses(paying), paying.broken()) == (11, 1, [])


# -- debt and freeze ---------------------------------------------------------------------------------


def in_debt(ledger: Ledger, email: str, owed: int = 30) -> str:
    """A user who bought, spent, and whose payment was taken back."""
    user = ledger.sign_up(email)
    bought = ledger.as_service("grant_credits", user_id=user, amount=owed, source="purchase")
    ledger.as_user(user, "consume_credits", operation="one", quantity=balance(ledger, user))
    ledger.claw_back(user, owed, bought["id"])
    assert balance(ledger, user) == -owed
    return user


def test_debt_comes_back_with_the_address_once(paying: Ledger) -> None:
    old = leave(paying, in_debt(paying, "ann@example.com"))
    again = paying.sign_up("Ann+again@example.com")
    assert balance(paying, again) == -30
    assert paying.value("select balance from public.credit_accounts where id = %s", old) == 0
    assert (total(paying), paying.broken()) == (-30, [])
    third = paying.sign_up("ann+third@example.com")  # while the second lives, who owes it
    assert balance(paying, third) == 0
    paying.as_service("grant_credits", user_id=again, amount=50, source="purchase")
    assert paying.as_user(again, "consume_credits", operation="one")["balance_after"] == 19
    leave(paying, again)
    assert balance(paying, paying.sign_up("ann@example.com")) == 0  # 19 unspent stay where they were
    assert paying.broken() == []


def test_a_dispute_after_the_return_finds_the_person(paying: Ledger) -> None:
    """The user spends, deletes, signs up again, and only then takes the money back; twice in a row."""
    user = paying.sign_up("ann@example.com")
    paying.as_service("grant_credits", user_id=user, amount=100, source="purchase")
    paying.as_user(user, "consume_credits", operation="one", quantity=110)
    old = leave(paying, user)
    second = paying.sign_up("ann@example.com")
    middle = leave(paying, second)
    third = paying.sign_up("ann+3@example.com")
    assert balance(paying, third) == 0
    for owed in (60, 40):
        paying.rows("select credits.claw_back(%s, %s)", old, owed)
    assert [balance(paying, third), total(paying), paying.broken()] == [-100, -100, []]
    moved = paying.rows("select balance from public.credit_accounts where id in (%s, %s)", old, middle)
    assert [row["balance"] for row in moved] == [0, 0]


def test_no_second_address_leads_past_the_successor(paying: Ledger) -> None:
    """The debt went with one address to a throwaway; who comes with the other one finds it all the same."""
    user = in_debt(paying, "ann@example.com")
    paying.rows("update auth.users set phone = '41791234567', phone_confirmed_at = now() where id = %s", user)
    paying.as_service("freeze_account", user_id=user, reason="payment disputed")
    old = leave(paying, user)
    leave(paying, paying.sign_up("ann@example.com"))
    again = str(uuid.uuid4())
    paying.rows(
        "insert into auth.users (id, phone, phone_confirmed_at) values (%s, '41791234567', now())", again
    )
    assert (balance(paying, again), paying.account(again)["frozen_reason"]) == (-30, "payment disputed")
    paying.rows("select credits.claw_back(%s, 5)", old)
    assert (balance(paying, again), total(paying), paying.broken()) == (-35, -35, [])


def test_credits_that_are_left_do_not_come_back(paying: Ledger) -> None:
    user = paying.sign_up("ann@example.com")
    paying.as_service("grant_credits", user_id=user, amount=100, source="purchase")
    old = leave(paying, user)
    assert balance(paying, paying.sign_up("ann@example.com")) == 0
    assert paying.value("select balance from public.credit_accounts where id = %s", old) == 110


def test_a_debt_cannot_be_put_on_who_was_there_before(paying: Ledger) -> None:
    """Neither by taking another's address and leaving, nor on who takes the address of one who owed."""
    ann = paying.sign_up("ann@example.com")
    thief = in_debt(paying, "thief@example.com")
    paying.rows("update auth.users set email = 'ann+thief@example.com' where id = %s", thief)
    paying.as_service("freeze_account", user_id=thief, reason="payment disputed")
    old = leave(paying, thief)
    paying.rows("update auth.users set email = 'ANN@example.com' where id = %s", ann)
    assert (balance(paying, ann), paying.account(ann)["frozen_at"]) == (10, None)

    bob = paying.sign_up("bob@example.com")
    paying.rows("update auth.users set email = 'thief@example.com' where id = %s", bob)
    assert (balance(paying, bob), paying.account(bob)["frozen_at"]) == (10, None)
    paying.rows("select credits.claw_back(%s, 5)", old)
    assert (balance(paying, ann), balance(paying, bob), paying.broken()) == (10, 10, [])
    # Who comes new with it owes it.
    assert balance(paying, paying.sign_up("thief+new@example.com")) == -35


def test_an_address_that_is_not_confirmed_says_nothing(paying: Ledger) -> None:
    user = paying.sign_up("ann@example.com", confirmed=False)
    paying.as_service("grant_credits", user_id=user, amount=5, source="promo")
    paying.claw_back(user, 20)
    leave(paying, user)
    assert balance(paying, paying.sign_up("ann@example.com")) == 10


def test_a_softly_deleted_user_is_gone(paying: Ledger) -> None:
    user = in_debt(paying, "ann@example.com")
    paying.rows("update auth.users set email = 'digest', deleted_at = now() where id = %s", user)
    assert balance(paying, paying.sign_up("ann@example.com")) == -30
    assert paying.value("select count(*) from credits.account_addresses") == 2
    assert (total(paying), paying.broken()) == (-30, [])


def test_a_freeze_comes_back_with_its_reason(paying: Ledger) -> None:
    user = paying.sign_up("ann@example.com")
    paying.as_service("freeze_account", user_id=user, reason="selling credits")
    second = paying.sign_up("ann+2@example.com")  # beside the frozen one
    leave(paying, user)
    third = paying.sign_up("ann+3@example.com")
    for frozen in (second, third):
        assert paying.account(frozen)["frozen_reason"] == "selling credits"
        with pytest.raises(Refused) as refused:
            paying.as_user(frozen, "consume_credits", operation="one")
        assert refused.value.code == "PT403"
    paying.as_service("unfreeze_account", user_id=third)
    paying.rows("update auth.users set email = 'ann+4@example.com' where id = %s", third)
    assert paying.account(third)["frozen_at"] is None


def test_a_freeze_of_a_deleted_users_account_reaches_the_successor(paying: Ledger) -> None:
    """As a dispute makes it: tests/payments looks at the dispute itself."""
    user = paying.sign_up("ann@example.com")
    old = leave(paying, user)
    again = paying.sign_up("ann@example.com")
    paying.rows(
        "update public.credit_accounts set frozen_at = credits.now(), frozen_reason = 'disputed' "
        "where id = %s",
        old,
    )
    paying.rows("select credits.pass_freeze(%s)", old)
    assert paying.account(again)["frozen_reason"] == "disputed"


def test_returns_and_clawbacks_at_once(paying: Ledger, own_db: Database) -> None:
    """Whichever comes first, the debt ends with the person, once."""
    for n in range(5):
        user = paying.sign_up(f"ann{n}@example.com")
        old = leave(paying, user)
        barrier = threading.Barrier(3)

        def claw(account: str, start: threading.Barrier) -> None:
            with Ledger(psycopg.connect(own_db.url, autocommit=True)) as session:
                start.wait()
                session.rows("select credits.claw_back(%s, 17)", account)

        def come_back(address: str, start: threading.Barrier) -> str:
            with Ledger(psycopg.connect(own_db.url, autocommit=True)) as session:
                start.wait()
                return session.sign_up(address)

        with ThreadPoolExecutor(3) as threads:
            clawed = [threads.submit(claw, old, barrier) for _ in range(2)]
            again = threads.submit(come_back, f"ann{n}@example.com", barrier).result()
            for future in clawed:
                future.result()
        assert balance(paying, again) == 10 - 2 * 17, n
    assert paying.broken() == []


# -- the hash ----------------------------------------------------------------------------------------


def test_the_hash_is_hmac_sha256(ledger: Ledger) -> None:
    # RFC 4231, test case 2; and keys and messages of other lengths.
    for key, message in (
        (b"Jefe", b"what do ya want for nothing?"),
        (b"", b""),
        (b"\x00" * 32, b"x"),
        (b"\xff" * 64, "ä".encode()),
    ):
        made = ledger.value("select credits.hmac_sha256(%s, %s)", key, message)
        assert made == hmac.digest(key, message, "sha256")


def test_no_address_is_stored_and_each_database_has_its_own_secret(paying: Ledger, stack: Stack) -> None:
    paying.sign_up("a.n.n+x@googlemail.com")
    secret = paying.value("select value from credits.secrets where name = 'addresses'")
    stored = paying.value("select address from credits.account_addresses")
    assert stored == hmac.digest(secret, b"email:ann@gmail.com", "sha256")
    assert stored != hashlib.sha256(b"email:ann@gmail.com").digest()
    name = f"other_{uuid.uuid4().hex[:12]}"
    try:
        url = stack.create_database(name)
        stack.apply_migrations(url)
        with psycopg.connect(url) as other:
            assert other.execute("select value from credits.secrets").fetchone() != (secret,)
    finally:
        stack.drop_database(name)
