"""What a client asks the function generate for: read, checked, and digested."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..app import json_object, limited_stream, read_body
from ..errors import FunctionError
from .media import MEGABYTE, BadMediaError, Media, check_input

FIELDS = ("operation", "prompt", "n", "options", "inputs", "mask", "dry_run")
JSON_LIMIT = 128 * 1024
UPLOAD_LIMIT = 25 * MEGABYTE  # of a whole multipart body
PROMPT_LIMIT = 10_000  # characters
IMAGES = 16  # that a provider takes at most; how many an operation takes, its price says
# <account>/… in the bucket generations; no empty, hidden or dotted parts, nothing to escape.
PATH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){1,6}")


@dataclass(frozen=True)
class Order:
    """A request that is well formed; whether it fits the price's terms, the database knows.

    `inputs` and `mask` are storage paths, `uploads` and `uploaded_mask` images that came with it.
    """

    operation: str
    prompt: str
    n: int
    options: dict[str, Any]
    inputs: list[str]
    uploads: list[Media]
    mask: str | None
    uploaded_mask: Media | None
    dry_run: bool

    def digest(self) -> str:
        """SHA-256 of all that makes the request what it is, in hex: the same for any order of its fields."""
        uploads = [hashlib.sha256(image.data).hexdigest() for image in self.uploads]
        mask = hashlib.sha256(self.uploaded_mask.data).hexdigest() if self.uploaded_mask else self.mask
        canonical = {
            "operation": self.operation, "prompt": self.prompt, "n": self.n, "options": self.options,
            "inputs": self.inputs, "uploads": uploads, "mask": mask,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()

    def asks(self) -> dict[str, Any]:
        """What the price depends on, as begin_generation and quote_credits want it."""
        return {
            "operation": self.operation,
            "quantity": self.n,
            "options": self.options,
            # To be quoted without images is to ask for the least.
            "inputs": len(self.inputs) + len(self.uploads) or (None if self.dry_run else 0),
            "mask": self.mask is not None or self.uploaded_mask is not None,
            "prompt_length": len(self.prompt),
        }

    def files(self) -> list[str]:
        """Paths in Storage."""
        return [*self.inputs, *([self.mask] if self.mask else [])]


async def read_order(request: Request) -> Order:
    """The order in a request: a JSON object, or multipart with it in `request` and files beside it.

    Raises FunctionError 400, or 413 as soon as the body turns out to be too large.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        text, files, masks = await _read_multipart(request)
        return _order(json_object(text, FIELDS), files, masks)
    return _order(json_object(await read_body(request, JSON_LIMIT), FIELDS), [], [])


async def _read_multipart(request: Request) -> tuple[bytes, list[bytes], list[bytes]]:
    try:
        form = await MultiPartParser(
            request.headers,
            limited_stream(request, UPLOAD_LIMIT),
            max_files=IMAGES + 1,
            max_fields=1,
            max_part_size=JSON_LIMIT,
        ).parse()
    except (MultiPartException, KeyError, ValueError):
        raise FunctionError(
            400, f"Send a field `request` with JSON, at most {IMAGES} files named `image`, and one `mask`."
        ) from None
    try:
        text = b""
        files: dict[str, list[bytes]] = {"image": [], "mask": []}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in files:
                files[name].append(await value.read())
            elif isinstance(value, str) and name == "request":
                text = value.encode(errors="replace")
            else:
                raise FunctionError(
                    400, "Only the field `request` and files named `image` and `mask` are known here."
                )
        return text, files["image"], files["mask"]
    finally:
        await form.close()


def _order(body: dict[str, Any], files: list[bytes], masks: list[bytes]) -> Order:
    operation, prompt, n = body.get("operation"), body.get("prompt"), body.get("n", 1)
    options, inputs, dry_run = body.get("options", {}), body.get("inputs", []), body.get("dry_run", False)
    mask = body.get("mask")
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
    paths = [*inputs, *([] if mask is None else [mask])] if isinstance(inputs, list) else [None]
    if not all(isinstance(path, str) and PATH.fullmatch(path) for path in paths):
        raise FunctionError(
            400,
            "inputs and mask are paths in the Storage bucket generations, such as <account>/inputs/cat.png; "
            "no URLs.",
        )
    if len(inputs) + len(files) > IMAGES:
        raise FunctionError(400, f"At most {IMAGES} images can be given.")
    if dry_run and (files or masks):
        raise FunctionError(400, "A dry run takes no files: name as many paths in `inputs` instead.")
    if len(masks) + (mask is not None) > 1:
        raise FunctionError(400, "There can be one mask.")
    images, painted = [read_image(file) for file in files], [read_image(file) for file in masks]
    return Order(operation, prompt, n, options, inputs, images, mask, next(iter(painted), None), dry_run)


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
