"""The API for what a client does."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Env

HTTP = httpx.Client(trust_env=False, timeout=20)


@dataclass(frozen=True)
class Answer:
    """What PostgREST answered. `details` is parsed."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """SQLSTATE or PostgREST's own code."""
        return str(self.body["code"])

    @property
    def details(self) -> Any:
        """The figures of a refusal."""
        return json.loads(self.body["details"])


@dataclass(frozen=True)
class Api:
    """The REST API with one token."""

    url: str
    headers: dict[str, str]

    def rpc(self, function: str, **arguments: Any) -> Answer:
        """Call a function."""
        answer = HTTP.post(f"{self.url}/rest/v1/rpc/{function}", json=arguments, headers=self.headers)
        return Answer(answer.status_code, answer.json())

    def ok(self, function: str, **arguments: Any) -> Any:
        """Call a function that must succeed."""
        answer = self.rpc(function, **arguments)
        assert answer.status == 200, answer.body
        return answer.body


@pytest.fixture(scope="session")
def operator(env: Env) -> Api:
    """The API with the service_role key."""
    key = env.service_role_key
    return Api(env.api_url, {"apikey": key, "Authorization": f"Bearer {key}"})
