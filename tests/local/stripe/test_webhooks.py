"""Deliveries: signed, tried again, late, twice, shuffled, never, and remembered."""

import time

import pytest
import stripe

from scripts.local.stripe.control import Control
from tests.support.clock import until
from tests.support.local_stripe import SECRET, Standin, WebhookReceiver, checkout


def pay(client: stripe.StripeClient, control: Control) -> str:
    return str(control.complete(checkout(client).id)["id"])


def test_every_event_arrives_signed(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    session = checkout(client)
    control.complete(session.id)
    control.settled()
    assert "checkout.session.completed" in shop.types()
    for event in shop.events():
        stored = client.v1.events.retrieve(event.id)
        assert stored.data.object.to_dict() == event.data.object.to_dict()
        assert (event.api_version, event.livemode, event.pending_webhooks) == ("2026-08-26.dahlia", False, 1)
        assert stored.pending_webhooks == 0
    body, header = shop.received[0]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + b" ", header, SECRET)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, header, SECRET + "x")


def test_events_name_the_request(client: stripe.StripeClient, control: Control) -> None:
    made = client.v1.customers.create({}, {"idempotency_key": f"key-{time.time_ns()}"})
    event = control.events("customer.created")[-1]
    assert event["data"]["object"]["id"] == made.id
    assert made.last_response
    assert event["request"] == {
        "id": made.last_response.request_id,
            "idempotency_key": made.last_response.idempotency_key}  # fmt: skip
    pay(client, control)
    assert control.events()[-1]["request"] == {"id": None, "idempotency_key": None}


def test_an_update_tells_what_was_before(client: stripe.StripeClient, control: Control) -> None:
    made = client.v1.customers.create({"name": "Old"})
    client.v1.customers.update(made.id, {"name": "New"})
    event = control.events("customer.updated")[-1]
    assert event["data"]["previous_attributes"] == {"name": "Old"}
    count = len(control.events("customer.updated"))
    client.v1.customers.update(made.id, {"name": "New"})
    assert len(control.events("customer.updated")) == count


@pytest.mark.parametrize("status", [400, 500, 302])
def test_a_failed_delivery_is_tried_again(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver, status: int
) -> None:
    control.first_retry(0.05)
    shop.answers += [status, status]
    client.v1.customers.create({})
    (delivery,) = control.deliveries(control.events()[-1]["id"])
    control.settled()
    (delivery,) = control.deliveries(delivery["event"])
    assert [attempt["status"] for attempt in delivery["attempts"]] == [status, status, 200]
    assert delivery["state"] == "delivered"
    assert len({event.id for event in shop.events()}) == 1
    first, second, third = (attempt["at"] for attempt in delivery["attempts"])
    assert second - first >= 0.05
    assert third - second >= 0.1


def test_retries_survive_kill_9(
    standin: Standin, client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.webhook_url("http://127.0.0.1:1/nobody")
    customer = client.v1.customers.create({"email": "kept@example.com"})
    event = control.events()[-1]["id"]
    until(lambda: control.deliveries(event)[0]["attempts"])
    standin.kill()
    standin.start()
    assert standin.client().v1.customers.retrieve(customer.id).email == "kept@example.com"
    (delivery,) = control.deliveries(event)
    assert delivery["state"] == "pending"
    assert "ConnectError" in delivery["attempts"][0]["error"]
    assert control.now() >= time.time() - 5
    again = standin.client().v1.customers.create(
        {"email": "kept@example.com"}, {"idempotency_key": "key-kill"}
    )
    standin.kill()
    standin.start()
    assert standin.client().v1.customers.create(
        {"email": "kept@example.com"}, {"idempotency_key": "key-kill"}
    ).id == again.id  # fmt: skip


def test_held_back_then_shuffled_three_times_on_8_connections(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.delivery("hold")
    pay(client, control)
    waiting = [each["event"] for each in control.deliveries() if each["state"] == "held"]
    assert shop.received == []
    sent = control.deliver(seed=7, times=3, connections=8)
    assert len(sent) == 3 * len(waiting)
    assert sorted(event.id for event in shop.events()) == sorted(waiting * 3)
    assert all(answer["status"] == 200 for answer in sent)
    assert control.deliver() == []
    # A repeat that fails does not undo the delivery.
    pay(client, control)
    shop.answers += [200, 500]
    (sent_twice, _) = control.deliver(types=["charge.succeeded"], times=2)
    (delivery,) = control.deliveries(sent_twice["event"])
    assert len(delivery["attempts"]) == 2
    assert delivery["state"] == "delivered"


def test_the_seed_gives_the_order(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.delivery("hold")
    orders = []
    for seed in (1, 1, 2):
        shop.received.clear()
        pay(client, control)
        control.deliver(seed=seed)
        orders.append(shop.types())
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])


def test_chosen_events_in_a_chosen_order(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.delivery("hold")
    pay(client, control)
    ids = [each["event"] for each in control.deliveries() if each["state"] == "held"]
    control.deliver(events=ids[::-1], ordered=True)
    assert [event.id for event in shop.events()] == ids[::-1]
    pay(client, control)
    control.deliver(types=["checkout.session.completed"])
    assert shop.types()[-1] == "checkout.session.completed"


def test_shuffled_and_twice_by_itself(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.delivery("shuffle", seed=3, times=2, window=0.1)
    pay(client, control)
    control.settled()
    counts = {kind: shop.types().count(kind) for kind in shop.types()}
    assert set(counts.values()) == {2}
    assert shop.types() != sorted(shop.types(), key=list(dict.fromkeys(shop.types())).index)


def test_dropped_events_are_listed_and_can_be_redelivered(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.delivery("drop")
    pay(client, control)
    time.sleep(0.2)
    assert shop.received == []
    (event,) = client.v1.events.list({"type": "checkout.session.completed", "limit": 1}).data
    assert event.pending_webhooks == 1
    assert event.id in [
        each.id for each in client.v1.events.list({"delivery_success": False, "type": "checkout.*"}).data
    ]
    control.redeliver(event.id)
    control.settled()
    assert shop.types() == ["checkout.session.completed"]
    assert client.v1.events.retrieve(event.id).pending_webhooks == 0


def test_secrets_roll(client: stripe.StripeClient, control: Control, shop: WebhookReceiver) -> None:
    for sign_with, good in (
        ("previous", {"whsec_old"}),
        ("both", {"whsec_old", SECRET}),
        ("current", {SECRET}),
    ):
        control.secrets(previous="whsec_old", sign_with=sign_with)  # type: ignore[arg-type]
        shop.received.clear()
        client.v1.customers.create({})
        control.settled()
        body, header = shop.received[-1]
        for secret in ("whsec_old", SECRET):
            if secret in good:
                stripe.Webhook.construct_event(body, header, secret)
            else:
                with pytest.raises(stripe.SignatureVerificationError):
                    stripe.Webhook.construct_event(body, header, secret)


def test_only_selected_types_are_sent(
    client: stripe.StripeClient, control: Control, shop: WebhookReceiver
) -> None:
    control.enabled_events(["checkout.session.completed"])
    pay(client, control)
    control.settled()
    assert shop.types() == ["checkout.session.completed"]
    assert client.v1.events.list({"types": ["charge.succeeded"], "limit": 1}).data[0].pending_webhooks == 0


def test_events_list_filters(client: stripe.StripeClient, control: Control) -> None:
    pay(client, control)
    now = control.now()
    listed = client.v1.events.list({"created": {"gte": now - 5, "lte": now}, "types": ["charge.succeeded"]})
    assert {event.type for event in listed.auto_paging_iter()} == {"charge.succeeded"}
    assert client.v1.events.list({"created": {"gt": now + 5}}).data == []
    old = client.v1.events.list({"limit": 1}).data[0]
    control.advance(days=31)
    assert old.id not in [event.id for event in client.v1.events.list({"limit": 100}).data]
