"""What needs no stack: the settings, and where a page may lead back to."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from _shared import database, settings
from _shared.app import function
from _shared.errors import FunctionError
from _shared.payments import reconcile, stripe_api
from _shared.redirects import origin

EVERY = (
    "SUPABASE_URL", "SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY",
    "SUPABASE_SECRET_KEYS", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_JWKS", "JWT_SECRET",
    "STRIPE_SECRET_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET", "STRIPE_WEBHOOK_SECRET_PREVIOUS",
    "ALLOWED_REDIRECT_ORIGINS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EVERY:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (settings.supabase_url, "SUPABASE_URL"),
        (settings.publishable_key, "SUPABASE_PUBLISHABLE_KEYS"),
        (settings.secret_key, "SUPABASE_SECRET_KEYS"),
        (settings.service_keys, "SUPABASE_SECRET_KEYS"),
        (settings.verifying_keys, "SUPABASE_JWKS"),
        (settings.stripe_secret_key, "STRIPE_SECRET_KEY"),
        (settings.webhook_secrets, "STRIPE_WEBHOOK_SECRET"),
        (settings.redirect_origins, "ALLOWED_REDIRECT_ORIGINS"),
    ],
)
def test_a_missing_variable_is_named(
    read: Callable[[], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, "", "  "):
        if value is not None:
            monkeypatch.setenv(name, value)
        with pytest.raises(FunctionError) as caught:
            read()
        assert caught.value.status == 500
        assert f" {name} " in caught.value.message


@pytest.mark.parametrize(
    ("read", "name", "value"),
    [
        (settings.supabase_url, "SUPABASE_URL", "hush_1"),
        (settings.supabase_url, "SUPABASE_URL", "https://hush_1@project.example"),
        (settings.secret_key, "SUPABASE_SECRET_KEYS", "hush_1"),
        (settings.secret_key, "SUPABASE_SECRET_KEYS", '["hush_1"]'),
        (settings.secret_key, "SUPABASE_SECRET_KEYS", '{"default": 1, "hush_1": 2}'),
        (settings.secret_key, "SUPABASE_SECRET_KEYS", '{"hush_1": ""}'),
        (settings.verifying_keys, "SUPABASE_JWKS", "hush_1"),
        (settings.verifying_keys, "SUPABASE_JWKS", '{"hush_1": 1}'),
        (settings.verifying_keys, "SUPABASE_JWKS", '["hush_1"]'),
        (settings.verifying_keys, "SUPABASE_JWKS", '[{"kty": "hush_1"}]'),
        (settings.redirect_origins, "ALLOWED_REDIRECT_ORIGINS", "hush_1"),
        (settings.redirect_origins, "ALLOWED_REDIRECT_ORIGINS", "https://*.hush_1, "),
        (settings.redirect_origins, "ALLOWED_REDIRECT_ORIGINS", "https://a.example,hush_1"),
    ],
)
def test_a_malformed_variable_is_named_and_not_shown(
    read: Callable[[], Any], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(FunctionError) as caught:
        read()
    assert f" {name} " in caught.value.message
    assert "hush_1" not in str(caught.value.body())


def test_keys_by_their_old_and_new_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "legacy")
    assert (settings.secret_key(), settings.service_keys()) == ("legacy", ["legacy"])
    monkeypatch.setenv("SUPABASE_SECRET_KEYS", '{"other": "one", "default": "two"}')
    assert (settings.secret_key(), settings.service_keys()) == ("two", ["one", "two", "legacy"])
    monkeypatch.setenv("SUPABASE_ANON_KEY", "legacy")
    assert settings.publishable_key() == "legacy"
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEYS", '{"web": "one"}')
    assert settings.publishable_key() == "one"


def test_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_REDIRECT_ORIGINS", " https://App.example , http://[::1]:3000/,")
    assert settings.redirect_origins() == {"https://app.example:443", "http://[::1]:3000"}
    for same in ("https://app.example", "https://APP.example:443/x?y#z", "HTTPS://app.example:/"):
        assert origin(same) == "https://app.example:443"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 350])
def test_lists_are_read_oldest_first(size: int) -> None:
    """Whatever the number of pages, and though new events come meanwhile."""
    stored = [{"id": f"evt_{n}"} for n in range(size)]  # oldest first
    requests = 0

    class Answer:
        def __init__(self, data: dict[str, Any]) -> None:
            self.last_response = self
            self.data = json.loads(json.dumps(data))

    async def listing(params: dict[str, Any]) -> Answer:
        nonlocal requests
        requests += 1
        newest_first = stored[::-1]
        ids = [item["id"] for item in newest_first]
        start = ids.index(params["starting_after"]) + 1 if "starting_after" in params else 0
        page = newest_first[start : start + params["limit"]]
        if "starting_after" in params:
            stored.append({"id": f"evt_new_{requests}"})
        return Answer({"data": page, "has_more": start + len(page) < len(newest_first)})

    async def read() -> list[str]:
        return [item["id"] async for page in reconcile._oldest_first(listing, {}) for item in page]

    assert asyncio.run(read()) == [f"evt_{n}" for n in range(size)]
    assert requests <= max(1, 2 * -(-size // 100) - 1)


def test_an_invoice_with_all_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe puts the first ten into an event or a list."""
    lines = [{"id": f"il_{n}"} for n in range(250)]
    asked: list[Any] = []

    class Lines:
        async def list_async(self, invoice: str, params: dict[str, Any]) -> Any:
            asked.append(invoice)
            ids = [line["id"] for line in lines]
            start = ids.index(params["starting_after"]) + 1 if "starting_after" in params else 0
            page = lines[start : start + params["limit"]]
            data = {"data": page, "has_more": start + len(page) < len(lines)}
            return SimpleNamespace(last_response=SimpleNamespace(data=data))

    fake = SimpleNamespace(v1=SimpleNamespace(invoices=SimpleNamespace(line_items=Lines())))
    monkeypatch.setattr(stripe_api, "client", lambda: fake)
    part = {"id": "in_1", "lines": {"object": "list", "has_more": True, "data": lines[:10]}}
    whole = asyncio.run(stripe_api.with_all_lines(part))
    assert whole == {"id": "in_1", "lines": {"object": "list", "has_more": False, "data": lines}}
    assert asked == ["in_1"] * 3
    assert asyncio.run(stripe_api.with_all_lines(whole)) is whole
    assert len(asked) == 3


def test_the_last_function_of_a_process_closes_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shared: one function that ends may not take them from another that finishes its jobs."""
    closed: list[str] = []

    async def close() -> None:
        closed.append("closed")

    monkeypatch.setattr(database, "close", close)

    async def handler(_request: Request) -> Response:
        return Response()

    async def live() -> None:
        one, other = function(handler), function(handler)
        async with one.router.lifespan_context(one):
            async with other.router.lifespan_context(other):
                assert closed == []
            assert closed == []
        assert closed == ["closed"]

    asyncio.run(live())
