"""A second subscription of an account brings nothing, however the messages of the two come."""

import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger import Ledger, Refused
from tests.support.messages import Contract, Message, Plan
from tests.support.stack import Database
from tests.support.till import EXAMPLES, Till, second_subscription


def two(till: Till, plan: Plan) -> tuple[str, list[Contract], list[Message]]:
    """A user with two subscriptions at once, and all that is told of both."""
    user, account = till.buyer()
    contracts = [Contract(account, plan, till.ledger.now()) for _ in range(2)]
    return user, contracts, [message for each in contracts for message in each.begin()]


@EXAMPLES
@given(seed=st.randoms(use_true_random=False))
def test_in_any_order(till: Till, seed: random.Random) -> None:
    user, contracts, messages = two(till, till.plan(100, 1000))
    messages *= 2
    seed.shuffle(messages)
    till.tell(messages)
    assert till.balance(user) == 100
    second_subscription(till, contracts)
    assert till.ledger.broken(user) == []


def test_from_eight_connections_at_once(own_db: Database) -> None:
    connections = [Ledger(psycopg.connect(own_db.url, autocommit=True)) for _ in range(8)]
    tills = [Till(ledger) for ledger in connections]
    dice = random.Random(5)  # noqa: S311 (the same each time)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            user, contracts, messages = two(tills[0], tills[0].plan(100, 1000))
            messages *= 2
            dice.shuffle(messages)
            list(pool.map(lambda pair: tills[pair[0] % 8].ingest(pair[1]), enumerate(messages)))
            assert tills[0].balance(user) == 100
            second_subscription(tills[0], contracts)
            assert tills[0].ledger.broken(user) == []
    for ledger in connections:
        ledger.connection.close()


def test_nothing_of_it_can_be_spent_and_renewals_bring_nothing(till: Till) -> None:
    user, contracts, messages = two(till, till.plan(100, 1000))
    for message in messages:
        till.tell([message])
        assert till.balance(user) <= 100
    later = next(each for each in contracts if each.id == second_subscription(till, contracts))
    till.tell(later.renew())
    assert till.balance(user) == 100
    named = {"account_id": later.account, "subscription_id": later.id}
    till.ledger.as_service("close_second_subscription", **named, outcome="kept")
    assert till.balance(user) == 300
    till.tell(later.renew())
    assert till.balance(user) == 400
    # What is decided stays decided.
    till.ledger.as_service("close_second_subscription", **named, outcome="refunded")
    assert till.balance(user) == 400
    assert till.ledger.broken(user) == []


def test_one_after_the_other_is_no_second(till: Till) -> None:
    user, contracts, _ = two(till, till.plan(100, 1000))
    till.tell([*contracts[0].begin(), *contracts[0].cancel(), *contracts[1].begin()])
    assert till.ledger.rows(
        "select from credits.second_subscriptions where subscription_id = %s", contracts[1].id
    ) == []  # fmt: skip
    assert till.balance(user) == 200


def test_it_is_closed_with_words_that_fit(till: Till) -> None:
    _, contracts, messages = two(till, till.plan(100, 1000))
    till.tell(messages)
    name, account = second_subscription(till, contracts), contracts[0].account
    named = {"account_id": account, "subscription_id": name}
    _, other = till.buyer()
    for arguments, code in (
        ({"account_id": account, "subscription_id": "sub_none", "outcome": "kept"}, "PT404"),
        ({"account_id": other, "subscription_id": name, "outcome": "kept"}, "PT404"),
        (named | {"outcome": "gone"}, "PT400"),
        (named | {"outcome": "dismissed"}, "PT400"),
        (named | {"outcome": "dismissed", "note": " "}, "PT400"),
    ):
        with pytest.raises(Refused) as caught:
            till.ledger.as_service("close_second_subscription", **arguments)
        assert caught.value.code == code
    others = {"account_id": other, "subscription_id": name}
    assert not till.ledger.as_service("claim_second_subscription", **others)
    assert till.ledger.as_service("claim_second_subscription", **named)
    assert not till.ledger.as_service("claim_second_subscription", **named)
    assert not till.ledger.as_service("claim_second_subscription", **others, release=True)
    assert till.ledger.as_service("claim_second_subscription", **named, release=True)
    assert till.ledger.as_service("claim_second_subscription", **named)
    till.ledger.as_service(
        "close_second_subscription", **named, outcome="dismissed", note="Paid back in cash."
    )
