"""What an adapter tells: how to ask a provider, and how to read its answer. It sends nothing itself."""

import base64
import binascii
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx

from ..media import Media

# How many tokens a call took, by kind: input_text, input_image, output_text, output_image.
Tokens = Mapping[str, int]


@dataclass(frozen=True)
class Work:
    """What the provider shall do: `n` outputs of one operation. `images` and `mask` are the user's, checked.

    `options` are those that were paid for, defaults of the price included. `output`: image, text or video.
    """

    operation: str
    model: str
    prompt: str
    n: int
    options: Mapping[str, Any]
    images: Sequence[Media] = ()
    output: str = "image"
    mask: Media | None = None


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
    tokens: Tokens = field(default_factory=dict)


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

    tokens: Tokens = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """Nothing came of it, and nothing will. `status`, `code` and `message` are for the client."""

    status: int
    code: str
    message: str
    tokens: Tokens = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """No answer came after the request was sent: it may or may not have been carried out."""


Outcome = Delivered | Started | Refused | Failed | Lost
UNUSABLE = Failed(
    502, "no_output", "The provider gave no usable output; try again with a new Idempotency-Key."
)


# What a status says where the provider's words say nothing else.
FAILURES = {401: "key", 403: "key", 402: "quota", 404: "gone", 410: "gone", 429: "busy"}


class Provider(ABC):
    """One provider. `env` begins the names of its variables: <env>_API_KEY and <env>_BASE_URL."""

    env: ClassVar[str]
    base_url: ClassVar[str]
    max_outputs: ClassVar[int] = 10  # per job
    outputs_per_request: ClassVar[int] = 1  # a job of more takes several requests at once
    max_images: ClassVar[int] = 4  # that the user may give
    takes_mask: ClassVar[bool] = False  # whether a mask can come with them
    outputs: ClassVar[Collection[str]] = ("image",)  # what it can make: image, text, video
    prompt_limit: ClassVar[int] = 10_000  # characters
    # Where its links may lead: a host, or with a leading dot every host below it.
    hosts: ClassVar[Collection[str]] = ()

    @abstractmethod
    def headers(self, key: str) -> dict[str, str]:
        """How requests say who we are."""

    @abstractmethod
    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        """The options that it has, each with its values: a set of words or a range. Prices offer some."""

    @abstractmethod
    def ask(self, work: Work) -> Ask:
        """The request that starts the work. `work` has passed check(), and its n is at most `batch`."""

    @abstractmethod
    def read(self, reply: Reply, work: Work) -> Delivered | Started | Refused:
        """What a 2xx answer to ask() says. Raises nothing for whatever is in it."""

    def tokens(self, reply: Reply, work: Work) -> Tokens:
        """What a 2xx answer to ask() says that the call took; nothing where it does not say."""
        return {}

    def refused(self, reply: Reply) -> bool:
        """Whether a 4xx answer is a policy refusal."""
        return False

    def failure(self, reply: Reply) -> str:
        """Which it is of all else that a 4xx answer can be.

        gone: the model is no longer offered; quota: what the operator may use is used up, and waiting does
        not help; key: the operator's key is not valid; busy: asked too often, later is better; rejected.
        """
        return FAILURES.get(reply.status, "rejected")

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
        """Raises NotSetUpError when the price sells what this provider does not have."""
        if work.output not in self.outputs:
            raise NotSetUpError(f"{work.operation} shall give {work.output}, which it does not make.")
        if work.n > self.max_outputs:
            raise NotSetUpError(f"terms.max_n of {work.operation} is over {self.max_outputs}.")
        if len(work.prompt) > self.prompt_limit:
            raise NotSetUpError(f"terms.max_prompt of {work.operation} is over {self.prompt_limit}.")
        if len(work.images) > self.max_images:
            raise NotSetUpError(f"terms.inputs.max of {work.operation} is over {self.max_images}.")
        if work.mask and not self.takes_mask:
            raise NotSetUpError(f"{work.operation} cannot have a mask.")
        known = self.options(work)
        for name, value in work.options.items():
            # True is 1 to Python, and no seed.
            if name not in known or isinstance(value, bool) or value not in known[name]:
                raise NotSetUpError(f"terms.options of {work.operation} offer {name} {value!r}.")


class NotSetUpError(Exception):
    """A price that its provider cannot deliver. The message is for the operator, who can correct it."""


def need_image(work: Work) -> None:
    """NotSetUpError when the work has no image."""
    if not work.images:
        raise NotSetUpError(f"{work.model} needs an image: terms.inputs.min of {work.operation} must be 1.")


def token_count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else 0


def from_base64(value: Any) -> bytes:
    """Base64 as bytes; empty when it is not base64."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        return b""


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The objects in what should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def object_at(value: Any, name: str) -> dict[str, Any]:
    """The object under a name, an empty one when there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}
