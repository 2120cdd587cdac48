"""What an adapter tells: how to ask a provider, and how to read its answer. It sends nothing itself."""

import base64
import binascii
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx

from ..errors import FunctionError
from ..media import Media


@dataclass(frozen=True)
class Work:
    """What the provider shall do: `n` outputs of one operation. `images` are the user's, checked."""

    operation: str
    model: str
    prompt: str
    n: int
    options: Mapping[str, Any]
    images: Sequence[Media] = ()


@dataclass(frozen=True)
class Ask:
    """A request to a provider: path below its base URL, and httpx's arguments for the body and headers."""

    path: str
    method: str = "POST"
    json: Any = None
    data: Mapping[str, str] | None = None
    files: Sequence[tuple[str, tuple[str | None, bytes, str]]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A provider's whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes

    def json(self) -> dict[str, Any]:
        """The JSON object in the body; an empty one when there is none."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Delivered:
    """What the provider made: files, texts, or links to fetch them from; unchecked, and perhaps none."""

    files: Sequence[bytes] = ()
    texts: Sequence[str] = ()
    links: Sequence[str] = ()


@dataclass(frozen=True)
class Started:
    """The provider took the work on and gave it an id to ask by."""

    task: str


@dataclass(frozen=True)
class Working:
    """A task that is not done yet."""


@dataclass(frozen=True)
class Refused:
    """Against the provider's policy."""


@dataclass(frozen=True)
class Failed:
    """Nothing came of it, and nothing will. `status`, `code` and `message` are for the client."""

    status: int
    code: str
    message: str


@dataclass(frozen=True)
class Lost:
    """No answer came after the request was sent: it may or may not have been carried out."""


Outcome = Delivered | Started | Refused | Failed | Lost
UNUSABLE = Failed(
    502, "no_output", "The provider gave no usable output; try again with a new Idempotency-Key."
)


class Provider(ABC):
    """One provider. `env` begins the names of its variables: <env>_API_KEY and <env>_BASE_URL."""

    env: ClassVar[str]
    base_url: ClassVar[str]
    most: ClassVar[int] = 10  # outputs of one job
    batch: ClassVar[int] = 1  # outputs of one request; a job of more takes several requests at once
    images: ClassVar[int] = 4  # images that the user may give
    prompt_limit: ClassVar[int] = 10_000  # characters
    # Where its links may lead: a host, or with a leading dot every host below it.
    hosts: ClassVar[Collection[str]] = ()

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """How requests say who we are."""

    @abstractmethod
    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        """The options that the user may set, each with its values: a set of words or a range."""

    @abstractmethod
    def ask(self, work: Work) -> Ask:
        """The request that starts the work. `work` has passed check(), and its n is at most `batch`."""

    @abstractmethod
    def read(self, reply: Reply, work: Work) -> Delivered | Started | Refused:
        """What a 2xx answer to ask() says. Raises nothing for whatever is in it."""

    def refused(self, reply: Reply) -> bool:
        """Whether a 4xx answer is a policy refusal."""
        return False

    def poll(self, task: str) -> Ask | None:
        """The request that asks about a task; None where there are no tasks."""
        return None

    def read_poll(self, reply: Reply) -> Delivered | Working | Refused | Failed:
        """What a 2xx answer to poll() says."""
        raise NotImplementedError

    def cancel(self, task: str) -> Ask | None:
        """The request that cancels a task; None where that cannot be done."""
        return None

    def check(self, work: Work) -> None:
        """Raises FunctionError 400 when the work is not for this provider."""
        if work.n > self.most:
            raise _bad(f"n is at most {self.most} for {work.operation}.")
        if len(work.prompt) > self.prompt_limit:
            raise _bad(f"The prompt is longer than the {self.prompt_limit} characters of {work.operation}.")
        if len(work.images) > self.images:
            raise _bad(f"{work.operation} takes at most {self.images} images.")
        known = self.options(work)
        for name, value in work.options.items():
            if name not in known:
                listed = ", ".join(known) or "none"
                raise _bad(f"{work.operation} knows these options: {listed}.")
            # True is 1 to Python, and no seed.
            if isinstance(value, bool) or value not in known[name]:
                values = known[name]
                shown = (
                    f"from {values[0]} to {values[-1]}"
                    if isinstance(values, range)
                    else "one of " + ", ".join(sorted(map(str, values)))
                )
                raise _bad(f"The option {name} of {work.operation} is {shown}.")


def _bad(message: str) -> FunctionError:
    return FunctionError(400, message)


def need_image(work: Work) -> None:
    """FunctionError 400 when the work has no image."""
    if not work.images:
        raise _bad(f"{work.operation} needs an image in inputs.")


def decoded(value: Any) -> bytes:
    """Base64 as bytes; empty when it is not base64."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return b""


def listed(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def inner(value: Any, name: str) -> dict[str, Any]:
    """The object under a name, an empty one when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
