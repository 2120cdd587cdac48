"""What the four providers have in common."""

import hashlib
import hmac
import json
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .checks import JSON, Complaint
from .faults import Fault


@dataclass
class Asked:
    """A request that was found in order. `rest` is what only its provider needs."""

    prompt: str
    model: str
    n: int = 1
    width: int = 1024
    height: int = 1024
    rest: JSON = field(default_factory=dict)


@dataclass
class Reply:
    """An answer. `outputs` are the files that it hands out."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    outputs: list[bytes] = field(default_factory=list)
    task: str | None = None


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The request ends here, with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(value: Any, status: int = 200, **more: Any) -> Reply:
    """A JSON answer."""
    return Reply(json.dumps(value).encode(), status, **more)


def digest(data: bytes) -> str:
    """SHA-256 in hex, as the log has it."""
    return hashlib.sha256(data).hexdigest()


def request_id() -> str:
    """A fresh id for an answer's header."""
    return f"req_{uuid.uuid4().hex}"


class Provider(ABC):
    """One provider."""

    name: str

    def __init__(self, key: str) -> None:
        self.key = key

    def matches(self, given: str) -> bool:
        """Whether it is the key."""
        return hmac.compare_digest(given.encode(), self.key.encode())

    def bearer(self, request: web.Request) -> str:
        """The key in the Authorization header; empty without one."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return given.strip() if scheme.lower() == "bearer" else ""

    @abstractmethod
    def authorize(self, request: web.Request) -> None:
        """Raise Refused when the key is missing or wrong."""

    @abstractmethod
    async def read(self, request: web.Request) -> Asked:
        """Look at a create request. Raises Complaint or Refused."""

    @abstractmethod
    async def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Do what was asked, as far as the fault lets it."""

    @abstractmethod
    def complain(self, complaint: Complaint) -> Reply:
        """A 400 in the provider's shape."""

    @abstractmethod
    def turn_down(self, why: str, model: str) -> Reply:
        """What it says when the account is used up (quota), the key is wrong (key), or the model is gone."""

    @abstractmethod
    def trouble(self, status: int, message: str) -> Reply:
        """A 404, 413, 429 or 5xx in the provider's shape."""
