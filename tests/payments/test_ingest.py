"""What is no event, not ours, or not to be read: refused, ignored or put aside, and never half applied."""

from datetime import timedelta
from typing import Any

import pytest

from tests.support.clock import DAY, SECOND
from tests.support.ledger import Ledger, Refused
from tests.support.messages import Contract, Sale, event, new_id
from tests.support.till import Till

GOOD = Sale("00000000-0000-0000-0000-000000000000").completed()[0]


@pytest.mark.parametrize(
    "body",
    [
        {}, [], "x", 5, None, GOOD | {"object": "customer"}, GOOD | {"id": None}, GOOD | {"id": "x"},
        GOOD | {"id": "evt_" + "x" * 201}, GOOD | {"type": 5}, GOOD | {"livemode": "no"}, GOOD | {"data": {}},
        GOOD | {"data": {"object": []}},
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(till: Till, body: Any) -> None:
    with pytest.raises(Refused) as caught:
        till.ingest(body)
    assert caught.value.code == "PT400"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"livemode": True}, "A live event"),
        ({"account": "acct_1"}, "another account"),
        ({"api_version": "2024-06-20"}, "API version"),
        ({"api_version": None}, "API version"),
        ({"api_version": "new"}, "API version"),
    ],
)
def test_what_this_project_may_not_read_is_quarantined_whole(
    till: Till, change: dict[str, Any], reason: str
) -> None:
    user, account = till.buyer()
    message = Sale(account).completed()[0] | change
    answer = till.ingest(message)
    assert answer["status"] == "quarantined"
    assert reason in answer["reason"]
    row = till.ledger.rows("select * from credits.stripe_events where id = %s", message["id"])[0]
    assert (row["status"], row["payload"]) == ("quarantined", message)
    assert till.balance(user) == 0


def test_a_quarantined_event_is_applied_once_its_cause_is_mended(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    user, account = till.buyer()
    message = Sale(account).completed()[0] | {"livemode": True, "account": "acct_7"}
    till.tell([message])
    own_ledger.rows("update credits.billing_settings set stripe_livemode = true, stripe_account = 'acct_7'")
    assert till.tell([message]) == ["applied"]
    assert till.balance(user) == 100
    assert own_ledger.value("select attempts from credits.stripe_events") == 2


def test_what_the_settings_forbid_is_not_tried_again(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    user, account = till.buyer()
    till.tell([Sale(account).completed()[0] | {"livemode": True}])
    assert own_ledger.as_service("retry_stripe_events")["retried"] == 0
    own_ledger.rows("update credits.billing_settings set stripe_livemode = true")
    assert own_ledger.as_service("retry_stripe_events")["applied"] == 1
    assert till.balance(user) == 100


def test_one_event_that_breaks_does_not_hold_up_the_next(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    own_ledger.rows("update credits.billing_settings set max_grant = 50")
    (_, first), (user, second) = till.buyer(), till.buyer()
    till.tell([*Sale(first).completed(), *Sale(second).completed()])
    own_ledger.rows("update credits.billing_settings set max_grant = 1000")
    own_ledger.rows(
        "create function public.break() returns trigger language plpgsql "
        "as 'begin raise deadlock_detected; end'"
    )
    own_ledger.rows(
        "create trigger break before insert on public.purchases for each row "
        f"when (new.account_id = '{first}') execute function public.break()"
    )
    began = own_ledger.now().isoformat()
    own_ledger.rows("update credits.stripe_events set processed_at = processed_at - interval '1 day'")
    own_ledger.pass_time(timedelta(seconds=1))
    results = [own_ledger.as_service("retry_stripe_events", before=began) for _ in range(3)]
    assert [(result["failed"], result["applied"]) for result in results] == [(1, 0), (0, 1), (0, 0)]
    assert till.balance(user) == 100
    assert "40P01" in own_ledger.value("select reason from credits.stripe_events where status = 'failed'")


@pytest.mark.parametrize(
    "change",
    [
        {"amount_total": "much"}, {"amount_total": None}, {"amount_total": 10**30}, {"amount_total": -5},
        {"amount_total": 1.5}, {"currency": None}, {"currency": "dollars"}, {"id": None}, {"id": "in_1"},
        {"customer": "someone"},
        {"metadata": {"account_id": "x", "package": "a", "credits": "5"}},
        {"metadata": {"account_id": "00000000-0000-0000-0000-000000000000", "package": "a", "credits": "5"}},
        {"metadata": {"credits": "-5"}}, {"metadata": {"credits": "1e3"}}, {"metadata": {"credits": None}},
        {"metadata": {"quantity": "0"}}, {"metadata": {"quantity": "many"}},
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_read_is_quarantined_and_leaves_nothing(
    till: Till, change: dict[str, Any]
) -> None:
    user, account = till.buyer()
    session = Sale(account).completed()[0]["data"]["object"]
    if "metadata" in change:
        change = {"metadata": session["metadata"] | change["metadata"]}
    answer = till.ingest(event("checkout.session.completed", session | change))
    assert answer["status"] == "quarantined", answer
    # It says what is wrong, and quotes nothing of what came.
    assert answer["reason"]
    assert not any(str(value) in answer["reason"] for value in ("much", "dollars", "someone", "many"))
    assert till.ledger.rows("select * from public.purchases where account_id = %s", account) == []
    assert till.balance(user) == 0


def test_what_a_rule_refuses_has_failed_and_is_tried_again(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    own_ledger.rows("update credits.billing_settings set max_grant = 50")
    user, account = till.buyer()
    messages = Sale(account).completed()
    assert till.tell(messages * 2) == ["failed", "failed"]
    assert own_ledger.rows("select * from public.purchases") == []
    own_ledger.rows("update credits.billing_settings set max_grant = 100")
    retried = own_ledger.as_service("retry_stripe_events", before="infinity")
    assert retried == {"retried": 1, "applied": 1, "failed": 0, "quarantined": 0}
    assert own_ledger.as_service("retry_stripe_events")["retried"] == 0
    assert till.balance(user) == 100


@pytest.mark.parametrize(
    "content",
    [
        {"object": "payout", "id": "po_1"},
        {"object": "checkout.session", "id": "cs_1", "mode": "payment", "metadata": {}},
        {"object": "checkout.session", "id": "cs_1", "mode": "setup", "metadata": {"account_id": "x"}},
        {"object": "invoice", "id": "in_1", "status": "paid", "billing_reason": "manual", "parent": None},
        {"object": "refund", "id": "re_1", "payment_intent": None},
        {"object": "charge", "id": "ch_1", "payment_intent": "pi_1", "amount_refunded": 0},
        {"object": "dispute", "id": "du_1", "payment_intent": None},
        {"object": "customer", "id": "cus_1"},
        {"object": "invoice_payment", "id": "inpay_1", "invoice": "in_1", "payment": {"type": "charge"}},
        {},
    ],
)
def test_what_is_none_of_our_business_is_ignored(till: Till, content: dict[str, Any]) -> None:
    message = event("something.happened", content)
    assert till.tell([message, message]) == ["ignored", "duplicate"]
    reason = till.ledger.value("select reason from credits.stripe_events where id = %s", message["id"])
    assert reason.endswith(".")


def test_expanded_references_are_read_too(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    session = sale.completed()[0]["data"]["object"]
    session["payment_intent"] = {"id": sale.payment, "object": "payment_intent"}
    till.tell([event("checkout.session.completed", session), *sale.refund(500)])
    assert till.balance(user) == 50


@pytest.mark.parametrize(
    "function",
    [
        "dismiss_stripe_event",
        "ingest_stripe_object",
        "retry_stripe_events",
        "stripe_problems",
        "stripe_sync",
        "link_stripe_customer",
    ],
)
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_client_may_call_what_grants(till: Till, function: str, role: str) -> None:
    arguments: dict[str, dict[str, Any]] = {
        "dismiss_stripe_event": {"event_id": "evt_1", "why": "mine"},
        "ingest_stripe_object": {"object": {"id": "x"}},
        "link_stripe_customer": {
            "account_id": "00000000-0000-0000-0000-000000000000",
            "customer_id": "cus_1",
        },
    }
    user, _ = till.buyer()
    with pytest.raises(Refused) as caught:
        till.ledger.call(
            role, user if role == "authenticated" else None, function, **arguments.get(function, {})
        )
    assert caught.value.code == "42501"


def test_an_object_that_was_retrieved_repairs_what_was_missed_once(till: Till) -> None:
    user, account = till.buyer()
    sale = Sale(account)
    messages = [*sale.completed(), *sale.refund(100), *sale.dispute("needs_response", "won")]
    statuses = [
        till.ledger.as_service("ingest_stripe_object", object=message["data"]["object"])["status"]
        for message in messages * 2
    ]
    assert statuses[0] == "changed"
    assert set(statuses[len(messages) :]) == {"unchanged"}
    assert till.balance(user) == 90
    assert till.tell(messages) == ["applied"] * len(messages)
    assert till.balance(user) == 90


def test_reconciliation_never_goes_back(till: Till) -> None:
    first = till.ledger.as_service("stripe_sync", events_through="2026-05-02T00:00:00Z")
    again = till.ledger.as_service(
        "stripe_sync", events_through="2026-05-01T00:00:00Z", swept_at="2026-05-01T00:00:00Z"
    )
    assert again["events_through"] == first["events_through"] == "2026-05-02T00:00:00+00:00"
    assert till.ledger.as_service("stripe_sync") == again


def test_payloads_are_forgotten_after_their_time_and_ids_are_not(own_ledger: Ledger) -> None:
    till = Till(own_ledger)
    _, account = till.buyer()
    done = Sale(account).completed()
    own_ledger.rows("update credits.billing_settings set stripe_payload_retention = '1 day'")
    waiting = Sale(account).completed()[0] | {"livemode": True}
    till.tell([*done, event("ping", {}), waiting])
    own_ledger.rows("update credits.stripe_events set received_at = received_at + interval '1 day' * 26000")
    last = own_ledger.value("select max(received_at) from credits.stripe_events")
    own_ledger.set_time(last + DAY + SECOND)
    own_ledger.rows("select credits.run_maintenance()")
    kept = own_ledger.rows("select status from credits.stripe_events where payload is not null")
    assert kept == []
    assert till.tell(done) == ["duplicate"]
    assert own_ledger.as_service("retry_stripe_events")["retried"] == 0


def test_checkout_takes_the_price_from_the_row(till: Till) -> None:
    user, account = till.buyer()
    asked = till.ledger.as_user(user, "prepare_checkout", package="starter", quantity=3)
    assert (
        asked
        | {
            "mode": "payment",
            "account_id": account,
            "customer_id": None,
            "line_item": {
                "quantity": 3,
                "price_data": {"currency": "usd", "unit_amount": 499, "product_data": {"name": "Starter"}},
            },
            "metadata": {"account_id": account, "package": "starter", "quantity": "3", "credits": "150"},
            "trial_period_days": None,
            "check_price": None,
        }
        == asked
    )


def test_a_package_is_priced_in_several_currencies(till: Till) -> None:
    user, _ = till.buyer()
    slug = "yen" + new_id("x").replace("_test_", "")
    for currency, unit_amount in (("usd", 499), ("jpy", 750)):
        till.ledger.rows(
            "insert into public.credit_packages (slug, name, credits, unit_amount, currency) "
            "values (%s, 'Yen', 50, %s, %s)",
            slug, unit_amount, currency,
        )  # fmt: skip
    asked = till.ledger.as_user(user, "prepare_checkout", package=slug, currency="JPY")
    assert (
        asked["line_item"]["price_data"]["unit_amount"],
        asked["line_item"]["price_data"]["currency"],
    ) == (750, "jpy")
    with pytest.raises(Refused) as caught:
        till.ledger.as_user(user, "prepare_checkout", package=slug, currency="eur")
    assert caught.value.code == "PT404"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "PT400"),
        ({"package": "starter", "plan": "basic"}, "PT400"),
        ({"package": "starter", "quantity": 0}, "PT400"),
        ({"package": "starter", "quantity": 11}, "PT400"),
        ({"package": "enterprise", "quantity": 10}, None),
        ({"package": "nothing"}, "PT404"),
        ({"plan": "nothing"}, "PT404"),
    ],
)
def test_checkout_refuses_nonsense(till: Till, arguments: dict[str, Any], code: str | None) -> None:
    user, _ = till.buyer()
    if code is None:
        till.ledger.as_user(user, "prepare_checkout", **arguments)
        return
    with pytest.raises(Refused) as caught:
        till.ledger.as_user(user, "prepare_checkout", **arguments)
    assert caught.value.code == code


def test_a_plan_is_sold_by_its_stripe_price(till: Till) -> None:
    user, account = till.buyer()
    plan = till.plan(100, 1000)
    asked = till.ledger.as_user(user, "prepare_checkout", plan=plan.slug)
    assert (asked["mode"], asked["line_item"]) == ("subscription", {"price": plan.price, "quantity": 1})
    assert asked["metadata"] == {"account_id": account, "plan": plan.slug}


def test_one_customer_an_account_and_the_first_stays(till: Till) -> None:
    user, account = till.buyer()
    first, second = new_id("cus"), new_id("cus")
    link = till.ledger.as_service
    assert link("link_stripe_customer", account_id=account, customer_id=first) == first
    assert link("link_stripe_customer", account_id=account, customer_id=second) == first
    assert till.ledger.as_user(user, "my_stripe_customer") == first
    _, other = till.buyer()
    with pytest.raises(Refused) as caught:
        link("link_stripe_customer", account_id=other, customer_id=first)
    assert caught.value.code == "PT409"


def test_another_users_purchases_and_subscriptions_are_not_seen(till: Till) -> None:
    user, account = till.buyer()
    stranger, _ = till.buyer()
    till.tell([*Sale(account).completed(), *Contract(account, till.plan(1, 1), till.ledger.now()).begin()])
    for table, own in (("purchases", 2), ("subscriptions", 1)):
        count = f"select count(*) from public.{table}"
        assert till.ledger.read_as_user(user, count) == own
        assert till.ledger.read_as_user(stranger, count) == 0
