"""Whether a request is as the provider wants it: JSON Schema for fields, magic bytes for files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.web_request import FileField
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import ValidationError, best_match  # type: ignore[import-untyped]

from .png import is_png

JSON = dict[str, Any]


@dataclass
class Complaint(Exception):  # noqa: N818 - not an error of ours
    """What is wrong. kind: body, missing, unknown, type or value. path: the field, such as data.0.text."""

    kind: str
    path: str
    message: str


def schema(required: Sequence[str], **properties: Any) -> JSON:
    """An object with these fields and no others."""
    return {
        "type": "object", "required": list(required), "properties": properties, "additionalProperties": False,
    }  # fmt: skip


def one_of(*values: Any) -> JSON:
    """One of these values."""
    return {"enum": list(values)}


def text(most: int, least: int = 1) -> JSON:
    """A string of so many characters."""
    return {"type": "string", "minLength": least, "maxLength": most}


def whole(least: int, most: int) -> JSON:
    """A whole number."""
    return {"type": "integer", "minimum": least, "maximum": most}


def number(least: float, most: float) -> JSON:
    """A number."""
    return {"type": "number", "minimum": least, "maximum": most}


def validator(form: JSON) -> Draft202012Validator:
    """A compiled schema."""
    Draft202012Validator.check_schema(form)
    return Draft202012Validator(form)


def check(form: Draft202012Validator, value: Any) -> None:
    """Raise Complaint with what is wrong first."""
    error = best_match(form.iter_errors(value))
    if error is not None:
        raise _complaint(error)


def _complaint(error: ValidationError) -> Complaint:
    path = [str(part) for part in error.absolute_path]
    shown = error.message if len(error.message) <= 300 else f"{error.message[:200]} ..."
    match error.validator:
        case "required":
            name = next(name for name in error.validator_value if name not in error.instance)
            return Complaint("missing", ".".join([*path, name]), shown)
        case "additionalProperties":
            allowed = error.schema.get("properties", {})
            name = next(name for name in error.instance if name not in allowed)
            return Complaint("unknown", ".".join([*path, str(name)]), shown)
        case "type":
            return Complaint("type", ".".join(path), shown)
    return Complaint("value", ".".join(path), shown)


async def json_body(request: web.Request) -> Any:
    """The JSON that was sent. Raises Complaint."""
    if request.content_type != "application/json":
        raise Complaint("body", "", f"Content-Type is {request.content_type}, and must be application/json.")
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise Complaint("body", "", "The body is not JSON.") from None


@dataclass
class Form:
    """A multipart form: text fields, and files by field name."""

    fields: JSON
    files: dict[str, list[bytes]] = field(default_factory=dict)


async def form_body(
    request: web.Request, numbers: Mapping[str, type], files: Sequence[str], ignored: Sequence[str] = ()
) -> Form:
    """The multipart form that was sent, with the fields named in `numbers` as such. Raises Complaint.

    A field in `files` must be a file and no other may be. Empty ones in `ignored` count as not sent.
    """
    if request.content_type != "multipart/form-data":
        raise Complaint(
            "body", "", f"Content-Type is {request.content_type}, and must be multipart/form-data."
        )
    try:
        posted = await request.post()
    except (ValueError, KeyError):
        raise Complaint("body", "", "The body is not a multipart form.") from None
    form = Form({})
    for name, value in posted.items():
        sent = value.file.read() if isinstance(value, FileField) else value
        if name in ignored and not sent:
            continue
        if isinstance(value, FileField) or name in files:
            if name not in files or not isinstance(value, FileField):
                wanted = "a file" if name in files else "text"
                raise Complaint("type" if name in files else "unknown", name, f"{name} must be {wanted}.")
            form.files.setdefault(name, []).append(sent if isinstance(sent, bytes) else b"")
        elif name in form.fields:
            raise Complaint("value", name, f"{name} was sent twice.")
        else:
            form.fields[name] = value if isinstance(value, str) else value.decode("utf-8", "replace")
    for name, kind in numbers.items():
        if name in form.fields:
            try:
                form.fields[name] = kind(form.fields[name])
            except ValueError:
                raise Complaint("type", name, f"{form.fields[name]!r} is not a number.") from None
    return form


def image_type(data: bytes) -> str | None:
    """The media type of a whole PNG, or of what begins and ends as JPEG or WebP does; None for all else."""
    if is_png(data):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff") and data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and int.from_bytes(data[4:8], "little") + 8 <= len(data):
        return "image/webp"
    return None
