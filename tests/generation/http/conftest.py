"""The function generate, served by itself against the stack, with stand-ins for the providers."""

import contextlib
import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from scripts.local.providers.control import Control
from scripts.local.stack import Stack
from supabase import Client
from tests.support.generate import GenerateUser
from tests.support.served import Served, serving
from tests.support.stack import ROOT, Env, User

PROVIDERS = ("OPENAI", "GEMINI", "STABILITY", "RUNWAY")
PATHS = {"OPENAI": "/openai/v1", "GEMINI": "/gemini", "STABILITY": "/stability", "RUNWAY": "/runway"}
# What an operation of these tests takes, and what that adds.
RATIO, SEED = {"values": ["1:1", "16:9"]}, {"min": 0, "max": 2**31 - 1}
IMAGE: dict[str, Any] = {
    "options": {
        "size": {"values": {"1024x1024": 0, "1536x1024": 0, "3840x2160": 7.5}, "default": "1024x1024"},
        "quality": {"values": {"low": 0, "medium": 0, "max": 20}, "default": "low"},
    }
}
EDIT = {**IMAGE, "inputs": {"min": 1, "max": 16, "credits": 1}, "mask": True}
DRAWN = {"options": {"aspect_ratio": RATIO, "seed": SEED}}
VIDEO: dict[str, Any] = {
    "output": "video", "inputs": {"max": 1}, "max_n": 1, "max_prompt": 1000,
    "options": {"duration": {"min": 2, "max": 10, "default": 5}, "seed": SEED},
}  # fmt: skip
# Prices of these tests' own: with deadlines that a test can wait for.
TIERS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "gen_image": ("openai", "gpt-image-2.6-flare", 10, IMAGE),
    "gen_edit": ("openai", "gpt-image-2.6-sunburst", 15, EDIT),
    "gen_short": ("openai", "gpt-image-2.6-flare", 10, {"deadline_seconds": 5}),
    "gen_strict": ("openai", "gpt-image-2.6-flare", 10, {"charge_refusals": True}),
    "gen_stable": ("stability", "stable-image-core", 3, DRAWN),
    "gen_gemini": ("google", "gemini-nano-banana-2.1", 5, DRAWN),
    "gen_vision": ("google", "gemini-3.8-flash", 8, {"output": "text", "inputs": {"max": 4}}),
    "gen_video": ("runway", "gen4.5", 50, VIDEO),
    "gen_small_video": ("runway", "gen4.5", 1, VIDEO),
    "gen_seconds": ("runway", "gen4.5", 8, VIDEO),
    "gen_animate": ("runway", "gen4_turbo", 50, {**VIDEO, "inputs": {"min": 1, "max": 1}}),
    "gen_brief_video": ("runway", "gen4.5", 50, {**VIDEO, "deadline_seconds": 5}),
    "gen_retired": ("openai", "gpt-image-1", 10, {}),
    "gen_misfit": ("stability", "stable-image-core", 3, {"inputs": {"max": 1}}),
    "gen_nowhere": ("nobody", "none", 1, {}),
}


@pytest.fixture(scope="session")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The stand-ins: their URL, and the environment of a function that uses them."""
    keys = {f"{name}_API_KEY": f"not-a-key-{uuid.uuid4().hex}" for name in PROVIDERS}
    log_file = tmp_path_factory.mktemp("providers") / "log"
    with serving(["scripts.local.providers"], {**os.environ, **keys}, log_file, patience=40) as served:
        bases = {f"{name}_BASE_URL": served.url + path for name, path in PATHS.items()}
        yield served.url, {**keys, **bases}


@pytest.fixture(scope="session")
def _control(providers: tuple[str, dict[str, str]]) -> Iterator[Control]:
    with Control(providers[0]) as control:
        yield control


@pytest.fixture
def control(_control: Control) -> Iterator[Control]:
    """The stand-ins' controls; no fault outlives the test."""
    _control.reset()
    yield _control
    _control.reset()


@pytest.fixture(scope="session")
def _tiers(env: Env) -> Iterator[None]:
    with psycopg.connect(env.db_url, autocommit=True) as connection:
        for operation, (provider, model, price, terms) in TIERS.items():
            unit = "second" if operation == "gen_seconds" else "image"
            connection.execute(
                "insert into public.pricing_tiers "
                "(operation, provider, model, unit, credits_per_unit, terms) values (%s, %s, %s, %s, %s, %s)",
                [operation, provider, model, unit, price, json.dumps(terms)],
            )
        yield
        connection.execute(
            "update public.pricing_tiers set active = false where operation = any(%s)", [list(TIERS)]
        )


@pytest.fixture(scope="session")
def serve(
    stack: Stack, providers: tuple[str, dict[str, str]], _tiers: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Served]]:  # fmt: skip
    """A factory that starts a process with generate, as functions/README.md says.

    `module` serves another module with an `app`. Keyword arguments change the environment. The first process
    is started as the page says, those after it are forked.
    """
    logs, count = tmp_path_factory.mktemp("generate"), itertools.count()
    with contextlib.ExitStack() as resources:

        def start(module: str | None = None, **changes: str) -> Served:
            environment = {
                "PYTHONPATH": os.pathsep.join([str(ROOT / "functions"), str(ROOT)]),
                **stack.gateway_settings().function_environment(),
                **providers[1],
                "GENERATION_POLL_SECONDS": "0.2",
                "GENERATION_LEASE_SECONDS": "3",
                **changes,
            }
            app = [f"{module}:app"] if module else ["--app-dir", "functions/generate", "index:app"]
            log_file = logs / f"{uuid.uuid4().hex}.log"
            command = ["uvicorn", "--no-access-log", *app]
            fork = next(count) > 0
            return resources.enter_context(serving(command, environment, log_file, patience=0, fork=fork))

        yield start


@pytest.fixture(scope="session")
def served(serve: Callable[..., Served]) -> Served:
    """One process that the tests share, who leave it alive."""
    return serve()


@pytest.fixture
def caller(
    user: Callable[..., User], service: Client, env: Env, db: "psycopg.Connection[Any]"
) -> Callable[..., GenerateUser]:
    """A factory: a fresh user with 1000 credits."""

    def make() -> GenerateUser:
        made = user()
        bonus = db.execute(
            "select id, balance from public.credit_accounts where user_id = %s", [made.id]
        ).fetchone()
        assert bonus
        service.rpc(
            "grant_credits", {"user_id": made.id, "amount": 1000 - bonus[1], "source": "purchase"}
        ).execute()
        return GenerateUser(made, env, db, str(bonus[0]))

    return make


@pytest.fixture
def ann(caller: Callable[..., GenerateUser]) -> GenerateUser:
    """A user with 1000 credits."""
    return caller()


@pytest.fixture
def prompt() -> str:
    """A prompt that no other call has, so that faults and counts find this test's calls."""
    return f"a cat {uuid.uuid4().hex}"
