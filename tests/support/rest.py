"""Callers of /rest/v1: one who makes RPCs, one of any role who sends anything, a user with rows in it all."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.stack import User

# One for all: making a client takes longer than a request.
HTTP = httpx.Client(timeout=30, trust_env=False)


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


@dataclass(frozen=True)
class Caller:
    """Somebody who sends requests to /rest/v1 as one of the API roles."""

    role: str
    url: str
    headers: dict[str, str]

    def send(self, method: str, path: str, *, json: Any = None, **headers: str) -> httpx.Response:
        """One request; keyword arguments become headers, with - for _."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return HTTP.request(method, f"{self.url}/{path}", json=json, headers={**self.headers, **extra})

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.send("GET", path, **headers)

    def rpc(self, function: str, **arguments: Any) -> httpx.Response:
        return self.send("POST", f"rpc/{function}", json=arguments)


@dataclass(frozen=True)
class Person:
    """A user with an account and something in every table that the user can read."""

    caller: Caller
    user: User
    account_id: str
    spend_id: int
    hold_id: str
    key: str
    # Whatever of these turns up in somebody else's answer has leaked.
    secrets: tuple[str, ...] = field(default=())


def code(answer: httpx.Response) -> str:
    """The error code of an answer, empty without one."""
    if not answer.content:
        return ""
    body = answer.json()
    return str(body.get("code", "")) if isinstance(body, dict) else ""
