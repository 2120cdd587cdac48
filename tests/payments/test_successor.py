"""Who buys, spends, deletes the user and signs up again with the same address meets the dispute there."""

import uuid

import pytest

from tests.support.messages import Sale
from tests.support.till import Till


def bought(till: Till, email: str, spent: int = 60) -> tuple[str, Sale, str]:
    """A user who bought 100 credits, spent of them, and is deleted: the account, the sale, the address."""
    user = till.ledger.sign_up(email)
    account = str(till.ledger.account(user)["id"])
    sale = Sale(account)
    till.tell(sale.completed())
    if spent:
        till.ledger.as_user(user, "consume_credits", operation="one", quantity=spent)
    till.ledger.rows("delete from auth.users where id = %s", user)
    return account, sale, email


def left(till: Till, account: str) -> int:
    return int(till.ledger.value("select balance from public.credit_accounts where id = %s", account))


@pytest.fixture
def address() -> str:
    return f"{uuid.uuid4().hex}@example.com"


@pytest.mark.parametrize("returns_first", [True, False])
def test_a_dispute_follows_and_a_won_one_lets_go(till: Till, address: str, returns_first: bool) -> None:
    account, sale, _ = bought(till, address)
    opened, won = sale.dispute("needs_response"), sale.dispute("needs_response", "won")
    for message in won:  # the same dispute
        message["data"]["object"]["id"] = opened[0]["data"]["object"]["id"]
    if returns_first:
        again = till.ledger.sign_up(address)
        assert (till.balance(again), till.ledger.account(again)["frozen_at"]) == (0, None)
        till.tell(opened)
    else:
        till.tell(opened)
        again = till.ledger.sign_up(address)
    assert (till.balance(again), left(till, account)) == (-60, 0)
    assert till.ledger.account(again)["frozen_reason"] == "A payment of this account is disputed."
    till.ledger.as_service("grant_credits", user_id=again, amount=100, source="purchase")
    till.tell([*won, *(message | {"id": message["id"] + "x"} for message in won)])
    # What the debt had taken is back; what the old account had unspent stays there.
    assert (till.balance(again), left(till, account)) == (100, 40)
    assert till.ledger.account(again)["frozen_at"] is None
    assert till.ledger.broken() == []


def test_one_won_dispute_of_two_predecessors_unfreezes_nobody(till: Till, address: str) -> None:
    local, _, domain = address.partition("@")
    _, first, _ = bought(till, address)
    _, second, _ = bought(till, f"{local}+2@{domain}")
    third = till.ledger.sign_up(f"{local}+3@{domain}")
    assert till.ledger.account(third)["frozen_at"] is None
    till.tell(second.dispute("needs_response"))
    till.tell(first.dispute("needs_response", "won"))
    assert till.ledger.account(third)["frozen_at"] is not None
    assert till.balance(third) == -60
    assert till.ledger.broken() == []


def test_business_goes_on_and_unfreezes_nobody(till: Till, address: str) -> None:
    """Such as a renewal: the account's own payments are in order, that of the one before is not."""
    _, sale, _ = bought(till, address)
    again = till.ledger.sign_up(address)
    own = Sale(str(till.ledger.account(again)["id"]))
    till.tell(own.completed())
    till.tell(sale.dispute("needs_response"))
    till.tell(own.refund(100))
    assert till.ledger.account(again)["frozen_at"] is not None
    # Nor does its own dispute that was won, or the one of an account between the two.
    till.tell(own.dispute("needs_response", "won"))
    assert till.ledger.account(again)["frozen_at"] is not None
    till.ledger.rows("delete from auth.users where id = %s", again)
    last = till.ledger.sign_up(address)
    till.tell(own.refund(100))
    assert till.ledger.account(last)["frozen_at"] is not None
    assert till.ledger.broken() == []


def test_a_refund_through_a_chain_of_accounts(till: Till, address: str) -> None:
    """Each signed up again after the one before; the oldest one's payment is refunded, then that fails."""
    account, sale, _ = bought(till, address, spent=100)
    middle = till.ledger.sign_up(address)
    middle_account = str(till.ledger.account(middle)["id"])
    till.ledger.rows("delete from auth.users where id = %s", middle)
    last = till.ledger.sign_up(address)
    till.tell(sale.refund(1000))
    balances = [left(till, account), left(till, middle_account), till.balance(last)]
    assert balances == [0, 0, -100]
    # An operator refunds the spend as well: that pays what is owed, where it is owed by now.
    spend = till.ledger.value(
        "select id from public.credit_transactions where account_id = %s and kind = 'spend'", account
    )
    till.ledger.as_service("refund", account_id=account, transaction_id=spend, amount=70)
    balances = [left(till, account), left(till, middle_account), till.balance(last)]
    assert balances == [0, 0, -30]
    till.ledger.as_service("refund", account_id=account, transaction_id=spend)
    assert [left(till, account), till.balance(last)] == [0, 0]
    assert till.ledger.broken() == []
