"""consume_credits: what it charges, what it writes, when it refuses."""

import pytest

from tests.support.ledger import Ledger, Refused, buyer


def test_a_spend_writes_one_ledger_row(ledger: Ledger) -> None:
    user = buyer(ledger, 100)
    row = ledger.as_user(user, "consume_credits", operation="image_edit", quantity=2)
    assert row["kind"] == "spend"
    assert (row["amount"], row["balance_after"], row["quantity"], row["unit_price"]) == (-30, 70, 2, 15)
    assert row["actor"] == "authenticated"
    version = ledger.value("select version from public.pricing_tiers where operation = 'image_edit'")
    assert row["price_version"] == version
    assert ledger.broken(user) == []


@pytest.mark.parametrize(("quantity", "cost"), [(1, 1), (3, 1), (4, 2), (10, 3), (11, 4)])
def test_the_whole_is_rounded_up_not_each_unit(ledger: Ledger, quantity: int, cost: int) -> None:
    user = buyer(ledger, 10)
    assert ledger.as_user(user, "quote_credits", operation="fraction", quantity=quantity)["credits"] == cost
    assert ledger.as_user(user, "consume_credits", operation="fraction", quantity=quantity)["amount"] == -cost


def test_all_may_be_spent_and_not_one_more(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    ledger.as_user(user, "hold_credits", operation="one", quantity=4)
    with pytest.raises(Refused) as caught:
        ledger.as_user(user, "consume_credits", operation="one", quantity=7)
    assert caught.value.code == "PT402"
    assert caught.value.message == "Not enough credits."
    assert caught.value.details == {"required": 7, "available": 6, "shortfall": 1}
    assert ledger.as_user(user, "consume_credits", operation="one", quantity=6)["balance_after"] == 4
    assert ledger.account(user)["held"] == 4


def test_a_frozen_account_spends_nothing_but_gets_and_captures(ledger: Ledger) -> None:
    user = buyer(ledger, 10)
    spent = ledger.as_user(user, "consume_credits", operation="one", idempotency_key="first")
    hold = ledger.as_user(user, "hold_credits", operation="one")
    ledger.as_service("freeze_account", user_id=user, reason="chargeback")
    for function in ("consume_credits", "hold_credits"):
        with pytest.raises(Refused) as caught:
            ledger.as_user(user, function, operation="one", idempotency_key="later")
        assert (caught.value.code, caught.value.message) == ("PT403", "The account is frozen.")
    # A repeat is told what happened before; nothing happens again.
    assert (
        ledger.as_user(user, "consume_credits", operation="one", idempotency_key="first")["id"] == spent["id"]
    )
    assert not ledger.as_user(user, "quote_credits", operation="one")["affordable"]
    ledger.as_service("capture_hold", account_id=hold["account_id"], hold_id=hold["id"])
    ledger.as_service("refund", account_id=spent["account_id"], transaction_id=spent["id"])
    ledger.as_service("grant_credits", user_id=user, amount=5, source="promo")
    ledger.as_service("unfreeze_account", user_id=user)
    assert (
        ledger.as_user(user, "consume_credits", operation="one", idempotency_key="later")["balance_after"]
        == 13
    )


def test_lots_burn_by_priority_expiry_promotion_and_age(ledger: Ledger) -> None:
    user = ledger.sign_up()
    soon, late = (ledger.now() + ledger.value("select %s::interval", text) for text in ("1 day", "2 days"))
    for size, arguments in (
        (1, {"source": "purchase"}),
        (2, {"source": "purchase"}),
        (4, {"source": "promo"}),
        (8, {"source": "purchase", "expires_at": late}),
        (16, {"source": "purchase", "expires_at": soon}),
        (32, {"source": "purchase", "priority": 49}),
        (64, {"source": "bonus", "priority": 51, "expires_at": soon}),
    ):
        ledger.as_service("grant_credits", user_id=user, amount=size, **arguments)
    order = []
    for _ in range(127):
        ledger.as_user(user, "consume_credits", operation="one")
    ledger.settle(user)
    for row in ledger.rows(
        "select g.amount from credits.credit_allocations x join credits.credit_grants g "
        "on g.account_id = x.account_id and g.id = x.grant_id "
        "where g.account_id = %s order by x.transaction_id",
        ledger.account(user)["id"],
    ):
        if row["amount"] not in order:
            order.append(row["amount"])
    assert order == [32, 16, 8, 4, 1, 2, 64]
