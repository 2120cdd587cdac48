"""Request bodies: the bytes of an upload with what is said about them, and JSON."""

import base64
import binascii
import json
from collections.abc import AsyncIterator
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
class Upload:
    """What is said about the bytes, and the bytes, which can be read once."""

    mime_type: str
    cache_control: str
    metadata: Json | None
    chunks: AsyncIterator[bytes]


async def upload(request: Request) -> Upload:
    """The upload that a request carries: a form with one file, or the bytes as they are."""
    content_type = request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        return await _form_upload(request, content_type)
    try:
        described = base64.b64decode(request.headers.get("x-metadata", ""), validate=True)
    except binascii.Error:
        described = b""
    return Upload(
        content_type or "application/octet-stream",
        request.headers.get("cache-control", "no-cache"),
        _object_or_none(described),
        request.stream(),
    )


def _object_or_none(raw: bytes) -> Json | None:
    """Metadata of the user's own; what is not a JSON object is passed over, as hosted."""
    try:
        value = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@dataclass
class _Form:
    """Collects what the parser finds: the fields before the file, then the file's bytes."""

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
        self._field = options.get(b"name", b"").decode(errors="replace")
        self._in_file = b"filename" in options and self.file_type is None
        if self._in_file:
            stated = self._headers.get(b"content-type", b"application/octet-stream").decode(errors="replace")
            self.file_type = self.fields.get("contentType", b"").decode(errors="replace") or stated

    def on_part_data(self, raw: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.data += raw[start:end]
        elif self._field is not None and self.file_type is None:
            self.fields[self._field] = self.fields.get(self._field, b"") + raw[start:end]
            if sum(map(len, self.fields.values())) > MAX_FIELDS:
                raise too_large()

    def on_part_end(self) -> None:
        self._in_file = False

    def on_end(self) -> None:
        self.ended = True

    def callbacks(self) -> Any:
        """By the names that the parser knows."""
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}


async def _form_upload(request: Request, content_type: str) -> Upload:
    """As the clients send it: fields such as cacheControl first, then the file."""
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

    seconds = form.fields.get("cacheControl", b"").decode(errors="replace")
    described = form.fields.get("metadata") or form.fields.get("userMetadata", b"")
    return Upload(
        form.file_type, f"max-age={seconds}" if seconds else "no-cache", _object_or_none(described), file()
    )


async def json_body(request: Request) -> Json:
    """The body as a JSON object; an empty one is {}."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_JSON:
            raise StorageError(413, "FST_ERR_CTP_BODY_TOO_LARGE", "Request body is too large", 413)
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


def integer(params: Json, name: str, least: int, default: int | None = None) -> int:
    """An integer of at least `least`; digits in a text count, as supabase-py sends them."""
    value = params.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(f"body/{name} must be integer")
    if not least <= value < 2**53:
        raise invalid(f"body/{name} must be >= {least} and < 2^53")
    return value
