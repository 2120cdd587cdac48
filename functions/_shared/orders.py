"""What a client asks the function generate for: read, checked, and digested."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from .app import json_object, limited_stream, read_body
from .errors import FunctionError
from .media import MEGABYTE, BadMediaError, Media, check_input

FIELDS = ("operation", "prompt", "n", "options", "inputs", "dry_run")
JSON_LIMIT = 128 * 1024
UPLOAD_LIMIT = 25 * MEGABYTE  # of a whole multipart body
PROMPT_LIMIT = 10_000  # characters
IMAGES = 4
# <account>/… in the bucket generations; no empty, hidden or dotted parts, nothing to escape.
PATH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){1,6}")


@dataclass(frozen=True)
class Order:
    """A request that is well formed. `inputs` are storage paths, `uploads` images that came with it."""

    operation: str
    prompt: str
    n: int
    options: dict[str, Any]
    inputs: list[str]
    uploads: list[Media]
    dry_run: bool

    def digest(self) -> str:
        """SHA-256 of all that makes the request what it is, in hex: the same for any order of its fields."""
        uploads = [hashlib.sha256(image.data).hexdigest() for image in self.uploads]
        canonical = {
            "operation": self.operation, "prompt": self.prompt, "n": self.n, "options": self.options,
            "inputs": self.inputs, "uploads": uploads,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


async def read_order(request: Request) -> Order:
    """The order in a request: a JSON object, or multipart with the object in `request` and files in `image`.

    Raises FunctionError 400, or 413 as soon as the body turns out to be too large.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        text, files = await _read_multipart(request)
        return _order(json_object(text, FIELDS), files)
    return _order(json_object(await read_body(request, JSON_LIMIT), FIELDS), [])


async def _read_multipart(request: Request) -> tuple[bytes, list[bytes]]:
    try:
        form = await MultiPartParser(
            request.headers,
            limited_stream(request, UPLOAD_LIMIT),
            max_files=IMAGES,
            max_fields=1,
            max_part_size=JSON_LIMIT,
        ).parse()
    except (MultiPartException, KeyError, ValueError):
        raise FunctionError(
            400, f"Send a field `request` with JSON, and at most {IMAGES} files named `image`."
        ) from None
    try:
        text, files = b"", []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name == "image":
                files.append(await value.read())
            elif isinstance(value, str) and name == "request":
                text = value.encode(errors="replace")
            else:
                raise FunctionError(400, "Only the field `request` and files named `image` are known here.")
        return text, files
    finally:
        await form.close()


def _order(body: dict[str, Any], files: list[bytes]) -> Order:
    operation, prompt, n = body.get("operation"), body.get("prompt"), body.get("n", 1)
    options, inputs, dry_run = body.get("options", {}), body.get("inputs", []), body.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise FunctionError(400, "dry_run is true or false.")
    if not isinstance(operation, str) or not 1 <= len(operation) <= 63:
        raise FunctionError(400, "operation is the name of an operation, such as dalle3_image.")
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 10:
        raise FunctionError(400, "n is a whole number from 1 to 10.")
    if prompt is None and dry_run:
        prompt = ""
    elif not isinstance(prompt, str) or not prompt.strip() or len(prompt) > PROMPT_LIMIT or "\0" in prompt:
        raise FunctionError(400, f"prompt is a text of 1 to {PROMPT_LIMIT} characters.")
    if not isinstance(options, dict) or len(options) > 10 or not all(map(_is_option, options.values())):
        raise FunctionError(400, "options is an object of at most 10 words and whole numbers.")
    if not isinstance(inputs, list) or not all(
        isinstance(path, str) and PATH.fullmatch(path) for path in inputs
    ):
        raise FunctionError(
            400,
            "inputs are paths in the Storage bucket generations, such as <account>/inputs/cat.png; no URLs.",
        )
    if len(inputs) + len(files) > IMAGES:
        raise FunctionError(400, f"At most {IMAGES} images can be given.")
    if dry_run and files:
        raise FunctionError(400, "A dry run takes no files: leave them out, the price is the same.")
    return Order(operation, prompt, n, options, inputs, [read_image(file) for file in files], dry_run)


def _is_option(value: Any) -> bool:
    return (isinstance(value, str) and len(value) <= 100) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    )


def read_image(data: bytes) -> Media:
    """A user's image. FunctionError 400 for anything else."""
    try:
        return check_input(data)
    except BadMediaError as error:
        raise FunctionError(400, f"An input cannot be used. {error}") from None
