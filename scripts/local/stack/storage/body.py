"""Request bodies: the bytes of an upload with what is said about them, and JSON."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from .errors import StorageError, invalid, too_large

MAX_JSON = 1024 * 1024  # bytes
MAX_FIELDS = 1024 * 1024  # bytes of all form fields beside the file

Json = dict[str, Any]


@dataclass(frozen=True)
class About:
    """What is said about the bytes of an upload."""

    mime_type: str
    cache_control: str
    metadata: Json

    def __post_init__(self) -> None:
        """Refuse what no header of a download could carry."""
        for header, value in (("content-type", self.mime_type), ("cache-control", self.cache_control)):
            if not (value.isascii() and value.isprintable()):
                message = f'Invalid character in response header "{header}": {value[:50]}'
                raise StorageError(400, "InvalidRequest", message, error="invalid_header_char")


@dataclass(frozen=True)
class Upload:
    """The bytes, which can be read once, and what is said about them.

    In a form something may be said after the file, too: `about` is final once the bytes are read.
    """

    chunks: AsyncIterator[bytes]
    about: Callable[[], About]
    form: bool


async def upload(request: Request) -> Upload:
    """The upload that a request carries: a form with one file, or the bytes as they are."""
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        return await _form_upload(request, content_type)
    about = About(
        content_type or "application/octet-stream",
        request.headers.get("cache-control", "no-cache"),
        metadata_header(request),
    )
    return Upload(request.stream(), lambda: about, form=False)


def metadata_header(request: Request) -> Json:
    """What x-metadata holds, which is JSON in base64."""
    try:
        return _object(base64.b64decode(request.headers.get("x-metadata", ""), validate=True))
    except ValueError:
        return {}


def _object(raw: bytes) -> Json:
    """Metadata of the user's own; what is not a JSON object is passed over, as hosted."""
    try:
        value = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


FIELDS = ("cacheControl", "contentType", "metadata", "userMetadata")


@dataclass
class _Form:
    """Collects what the parser finds: the fields beside the file, and the file's bytes."""

    fields: dict[str, bytes] = field(default_factory=dict)
    file_type: str | None = None  # set once the file has begun
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: tuple[bytes, bytes] = (b"", b"")
    _field: str | None = None
    _in_file: bool = False

    def on_part_begin(self) -> None:
        self._headers, self._header = {}, (b"", b"")

    def on_header_field(self, raw: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + raw[start:end], b"")

    def on_header_value(self, raw: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + raw[start:end])

    def on_header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = (b"", b"")

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name, self._field = options.get(b"name", b"").decode(errors="replace"), None
        self._in_file = b"filename" in options and self.file_type is None
        if self._in_file:
            stated = self._headers.get(b"content-type", b"application/octet-stream")
            self.file_type = stated.decode(errors="replace")
        elif b"filename" not in options and name in FIELDS:
            self._field, self.fields[name] = name, b""

    def on_part_data(self, raw: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.data += raw[start:end]
        elif self._field is not None:
            self.fields[self._field] += raw[start:end]
            if sum(map(len, self.fields.values())) > MAX_FIELDS:
                raise too_large()

    def on_part_end(self) -> None:
        self._in_file = False

    def on_end(self) -> None:
        self.ended = True

    def callbacks(self) -> Any:
        """By the names that the parser knows."""
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}

    def about(self) -> About:
        """What has been said so far. A field contentType counts more than the type of the file's part."""
        said = {name: value.decode(errors="replace") for name, value in self.fields.items()}
        seconds = said.get("cacheControl")
        return About(
            said.get("contentType") or self.file_type or "application/octet-stream",
            f"max-age={seconds}" if seconds else "no-cache",
            _object(self.fields.get("metadata") or self.fields.get("userMetadata", b"")),
        )


async def _form_upload(request: Request, content_type: str) -> Upload:
    """As the clients send it: a file, and fields such as cacheControl before or after it."""
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise invalid("The form is not valid: its content-type names no boundary")
    form = _Form()
    parser = MultipartParser(options[b"boundary"], form.callbacks())
    stream = request.stream()

    async def advance() -> bool:
        """Feed the parser; false when the request is over."""
        async for chunk in stream:
            try:
                parser.write(chunk)
            except MultipartParseError as error:
                raise invalid(f"The form is not valid: {error}") from error
            return True
        return False

    while form.file_type is None:
        if not await advance():
            raise invalid("No content provided")

    async def file() -> AsyncIterator[bytes]:
        while True:
            if form.data:
                yield bytes(form.data)
                form.data.clear()
            if not await advance():
                break
        if not form.ended:
            raise invalid("The form ends before its file does")

    return Upload(file(), form.about, form=True)


async def json_body(request: Request) -> Json:
    """The body as a JSON object; an empty one is {}."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_JSON:
            raise StorageError(413, "EntityTooLarge", "Request body is too large", 413)
    try:
        value = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise invalid("The body is not valid JSON") from error
    if not isinstance(value, dict):
        raise invalid("body must be object")
    return value


def text(params: Json, name: str, default: str | None = None) -> str:
    """A text; without a default it must be there."""
    value = params.get(name, default)
    if not isinstance(value, str):
        raise invalid(f"body/{name} must be string" if name in params else f"body must have {name}")
    return value


def texts(params: Json, name: str, most: int) -> list[str]:
    """A list of 1 to `most` texts."""
    value = params.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid(f"body/{name} must be an array of strings")
    if not 1 <= len(value) <= most:
        raise invalid(f"body/{name} must have 1 to {most} items")
    return value


def integer(params: Json, name: str, least: int, default: int | None = None, where: str = "body") -> int:
    """An integer of at least `least`; digits in a text count, as supabase-py sends them."""
    value = params.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"{where}/{name} must be integer")
    if not least <= value < 2**53:
        raise invalid(f"{where}/{name} must be >= {least} and < 2^53")
    return value


def boolean(params: Json, name: str, default: bool) -> bool:
    """True or false."""
    value = params.get(name, default)
    if not isinstance(value, bool):
        raise invalid(f"body/{name} must be boolean")
    return value


def choice(params: Json, name: str, among: Sequence[str], where: str = "body") -> str:
    """One of some words, by default the first."""
    value = params.get(name, among[0])
    if value not in among:
        raise invalid(f"{where}/{name} must be one of {', '.join(among)}")
    return str(value)


def sort(params: Json) -> Json:
    """How a list is to be sorted: {column?, order?}."""
    value = params.get("sortBy") or {}
    if not isinstance(value, dict):
        raise invalid("body/sortBy must be object")
    return value


def instead(request: Request, params: Json) -> tuple[Json, Json]:
    """The metadata, and the user's own, that a copy gets instead of its original's."""
    given = params.get("metadata", {})
    if not isinstance(given, dict):
        raise invalid("body/metadata must be object")
    said = {name: text(given, name) for name in ("cacheControl", "mimetype") if name in given}
    About(said.get("mimetype", ""), said.get("cacheControl", ""), {})  # refuses what it does
    return said, metadata_header(request)
