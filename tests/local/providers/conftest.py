"""The local providers in a process of their own, and clients of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.local.providers.control import Control
from tests.support.local_providers import KEYS, Providers
from tests.support.served import serving

ROOT = Path(__file__).resolve().parents[3]


def _client(base: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=30)


@pytest.fixture(scope="package")
def _providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Providers]:
    log_file = tmp_path_factory.mktemp("providers") / "log"
    with serving(["scripts.local.providers"], {**os.environ, **KEYS}, log_file) as served:
        base = served.url
        yield Providers(
            base,
            _client(f"{base}/openai/v1", Authorization="Bearer sk-o"),
            _client(f"{base}/gemini", **{"x-goog-api-key": "g-key"}),
            _client(f"{base}/stability", Authorization="Bearer sk-s"),
            _client(f"{base}/runway", Authorization="Bearer key_r", **{"X-Runway-Version": "2024-11-06"}),
        )


@pytest.fixture
def control(_providers: Providers) -> Iterator[Control]:
    """The controls, with everything as at first."""
    with Control(_providers.base) as made:
        made.reset()
        yield made
        made.reset()


@pytest.fixture
def providers(_providers: Providers, control: Control) -> Providers:
    """The four providers, with nothing logged and no fault waiting."""
    return _providers
