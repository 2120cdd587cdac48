"""OpenAI: POST /v1/images/generations and /v1/images/edits, as the GPT image models answer.

The shapes are those of OpenAI's API reference and of its Python SDK (types/images_response.py,
image_*_params.py).
"""

import base64
import re
import secrets
import time
from typing import Any

from aiohttp import web

from . import checks
from .checks import JSON, Complaint, one_of, text, whole
from .faults import Fault
from .png import png
from .provider import Asked, Provider, Refused, Reply, json_reply, request_id

# Of those before gpt-image-2, what November 2026 has left. Any other is answered as a retired one is.
OLD_MODELS = ("gpt-image-1.5",)
MODELS = (
    *OLD_MODELS, "gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.5-sunburst", "gpt-image-2.6-flare",
    "gpt-image-2.6-sunburst",
)  # fmt: skip
LATEST = ("gpt-image-2.6-flare", "gpt-image-2.6-sunburst")
SIZES = ("1024x1024", "1536x1024", "1024x1536", "auto")
MAX_IMAGES, MAX_IMAGE_BYTES = 16, 50_000_000
# Of a square megapixel. The first three are of OpenAI's table for its earlier models, the others made up.
TOKENS = {"low": 272, "medium": 1056, "high": 4160, "xhigh": 8320, "max": 16640}

COMMON: JSON = {
    "prompt": text(32_000), "model": {"type": "string"}, "n": whole(1, 10), "size": {"type": "string"},
    "quality": one_of(*TOKENS, "auto"),
    "complexity": one_of("low", "medium", "high"), "background": one_of("transparent", "opaque", "auto"),
    "output_format": one_of("png", "jpeg", "webp"), "output_compression": whole(0, 100),
    "stream": one_of(False), "user": text(512),
}  # fmt: skip
GENERATION = checks.validator(checks.schema(["prompt"], **COMMON, moderation=one_of("low", "auto")))
EDIT = checks.validator(checks.schema(["prompt"], **COMMON, input_fidelity=one_of("low", "high")))


class OpenAI(Provider):
    """api.openai.com/v1, as far as images go."""

    name = "openai"

    def authorize(self, request: web.Request) -> None:
        """Raise Refused when the key is missing or wrong."""
        given = self.bearer(request)
        if not given:
            raise Refused(self._error(401, "You didn't provide an API key.", code=None))
        if not self.matches(given):
            message = f"Incorrect API key provided: {given[:3]}***{given[-4:]}."
            raise Refused(self._error(401, message, code="invalid_api_key"))

    async def read(self, request: web.Request) -> Asked:
        """Look at a create request. Raises Complaint or Refused."""
        editing = request.path.endswith("/edits")
        files: dict[str, list[bytes]] = {}
        if editing:
            form = await checks.form_body(
                request, {"n": int, "output_compression": int}, ("image", "image[]", "mask")
            )
            fields, files = form.fields, form.files
            if "stream" in fields:
                fields["stream"] = fields["stream"] != "false"
        else:
            fields = await checks.json_body(request)
        # null is the same as leaving it out, but the prompt is needed.
        given = {name: value for name, value in fields.items() if value is not None or name == "prompt"} \
            if isinstance(fields, dict) else fields  # fmt: skip
        checks.check(EDIT if editing else GENERATION, given)
        pictures = self._pictures(files) if editing else []
        model, size = given.get("model", "gpt-image-2"), given.get("size", "auto")
        if model not in MODELS:
            raise Refused(self.turn_down("model", model))
        if given.get("quality") in ("xhigh", "max") and model in (*OLD_MODELS, "gpt-image-2"):
            raise Complaint("value", "quality", f"{model} has no quality '{given['quality']}'.")
        if "complexity" in given and model not in LATEST:
            raise Complaint("unknown", "complexity", f"{model} has no complexity.")
        if given.get("output_format", "png") != "png":
            raise Complaint("value", "output_format", "The local stand-in makes png only.")
        if given.get("background") == "transparent" and model == "gpt-image-2":
            raise Complaint("value", "background", f"{model} has no transparent background.")
        width, height = self._size(model, size)
        return Asked(
            given["prompt"], model, given.get("n", 1), width, height, {**given, "pictures": pictures}
        )

    @staticmethod
    def _size(model: str, size: str) -> tuple[int, int]:
        if size == "auto":
            return 1024, 1024
        found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", size)
        if size in SIZES or (model not in OLD_MODELS and found):
            assert found
            width, height = int(found[1]), int(found[2])
            fits = not (width % 16 or height % 16) and 1 / 3 <= width / height <= 3
            if size in SIZES or (
                fits and 655_360 <= width * height <= 3840 * 2160 and max(width, height) <= 3840
            ):
                return width, height
        raise Complaint(
            "value", "size", f"Invalid value: '{size}'. Supported values are: {', '.join(SIZES)}."
        )

    @staticmethod
    def _pictures(files: dict[str, list[bytes]]) -> list[bytes]:
        pictures = files.get("image", []) + files.get("image[]", [])
        if not pictures:
            raise Complaint("missing", "image", "Missing required parameter: 'image'.")
        if len(pictures) > MAX_IMAGES:
            raise Complaint("value", "image", f"At most {MAX_IMAGES} images can be edited at once.")
        for data in pictures + files.get("mask", []):
            if len(data) > MAX_IMAGE_BYTES or checks.image_type(data) is None:
                raise Complaint("value", "image", "Invalid image file or mode, please check your image file.")
        return pictures

    async def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Do what was asked, as far as the fault lets it."""
        if fault and fault.kind == "refusal":
            return self._refusal(fault["code"] or "moderation_blocked", fault["stage"])
        count = asked.n
        if fault and fault.kind == "partial":
            count = min(fault["k"], asked.n)
        if fault and fault.kind == "empty":
            count = 0
        call = secrets.token_hex(8)
        images = [png(asked.width, asked.height, f"openai {call} {index}") for index in range(count)]
        if fault:
            images = [fault.spoil(image) for image in images]
        quality = asked.rest.get("quality", "auto")
        quality = "high" if quality == "auto" else quality
        background = asked.rest.get("background", "auto")
        body: JSON = {
            "created": int(time.time()),
            "background": "opaque" if background == "auto" else background,
            "data": [{"b64_json": base64.b64encode(image).decode()} for image in images],
            "output_format": "png",
            "quality": quality,
            "size": f"{asked.width}x{asked.height}",
            "usage": self._usage(asked, TOKENS[quality] * asked.width * asked.height // 1024**2 * asked.n),
        }
        return json_reply(body, headers={"x-request-id": request_id()}, outputs=images)

    @staticmethod
    def _usage(asked: Asked, output: int) -> JSON:
        words, pictures = len(asked.prompt) // 4 + 1, 323 * len(asked.rest["pictures"])
        return {
            "input_tokens": words + pictures, "output_tokens": output,
            "total_tokens": words + pictures + output,
            "input_tokens_details": {"text_tokens": words, "image_tokens": pictures},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": output},
        }  # fmt: skip

    def _refusal(self, code: str, stage: str) -> Reply:
        message = (
            "Your request was rejected by the safety system. If you believe this is an error, contact us "
            f"at help.openai.com and include the request ID {request_id()}. safety_violations=[{stage}]."
        )
        old = code == "content_policy_violation"
        return self._error(
            400, message, kind="invalid_request_error" if old else "image_generation_user_error", code=code
        )

    def complain(self, complaint: Complaint) -> Reply:
        """A 400 in the provider's shape."""
        name = complaint.path
        message, code = {
            "body": (f"We could not parse the body of your request. {complaint.message}", None),
            "missing": (f"Missing required parameter: '{name}'.", "missing_required_parameter"),
            "unknown": (f"Unknown parameter: '{name}'.", "unknown_parameter"),
            "type": (f"Invalid type for '{name}': {complaint.message}", "invalid_type"),
            "value": (complaint.message, "invalid_value"),
        }[complaint.kind]
        return self._error(400, message, param=name or None, code=code)

    def turn_down(self, why: str, model: str) -> Reply:
        """Quota, key or model."""
        if why == "quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return self._error(429, message, kind="insufficient_quota", code="credit_balance_exhausted")
        if why == "key":
            return self._error(401, "Incorrect API key provided.", code="invalid_api_key")
        return self._error(
            404,
            f"The model `{model}` does not exist or you do not have access to it.",
            code="model_not_found",
        )

    def trouble(self, status: int, message: str) -> Reply:
        """Any other error in the provider's shape."""
        if status == 429:
            return self._error(429, message, kind="requests", code="rate_limit_exceeded")
        return self._error(status, message, kind="server_error" if status >= 500 else "invalid_request_error")

    @staticmethod
    def _error(
        status: int,
        message: str,
        kind: str = "invalid_request_error",
        param: Any = None,
        code: str | None = None,
    ) -> Reply:
        error = {"message": message, "type": kind, "param": param, "code": code}
        return json_reply({"error": error}, status, headers={"x-request-id": request_id()})
