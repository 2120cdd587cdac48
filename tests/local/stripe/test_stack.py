"""The local Stripe as a part of the stack."""

import json
from pathlib import Path

import httpx

from scripts.local.stack import Stack
from scripts.local.stack.keys import load_or_create
from tests.support.stack import Env


def test_the_stack_tells_where_it_is_and_sends_events_to_its_function(env: Env) -> None:
    client, control = env.stripe(), env.stripe_control()
    made = client.v1.customers.create({"email": "stack@example.com"})
    assert client.v1.customers.retrieve(made.id).email == "stack@example.com"
    (event,) = [
        each for each in control.events("customer.created") if each["data"]["object"]["id"] == made.id
    ]
    (delivery,) = control.deliveries(event["id"])
    assert delivery["url"] == f"{env.functions_url}/stripe-webhook"


def test_functions_get_its_address_and_keys(env: Env, stack: Stack) -> None:
    given = stack.gateway_settings().function_environment()
    assert given["STRIPE_API_BASE"] == env.stripe_api_base
    assert httpx.get(f"{given['STRIPE_API_BASE']}/health", trust_env=False).is_success
    assert given["STRIPE_SECRET_KEY"] == env.stripe_secret_key
    assert given["STRIPE_WEBHOOK_SECRET"] == env.stripe_webhook_secret
    status = stack.status().env()
    assert {name: status[name] for name in status if name.startswith("STRIPE_")} == {
        name: given[name] for name in ("STRIPE_API_BASE", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET")
    }


def test_keys_of_an_older_stack_get_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_or_create(path)
    older = json.loads(path.read_text())
    del older["stripe_secret_key"], older["stripe_webhook_secret"]
    path.write_text(json.dumps(older))
    renewed = load_or_create(path)
    assert (renewed.jwt_secret, renewed.secret_key) == (first.jwt_secret, first.secret_key)
    assert renewed.stripe_secret_key.startswith("sk_test_")
    assert renewed.stripe_webhook_secret.startswith("whsec_")
    assert load_or_create(path) == renewed
