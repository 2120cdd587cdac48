"""Stability: POST /v2beta/stable-image/generate/core, ultra and sd3, as its API reference describes them."""

import base64
import secrets

from aiohttp import web

from . import checks
from .checks import JSON, Complaint, number, one_of, text, whole
from .faults import Fault
from .png import png
from .provider import Asked, Provider, Refused, Reply, json_reply

# Width and height at one megapixel. core makes 1.5 megapixels.
SIZES = {
    "1:1": (1024, 1024), "16:9": (1344, 768), "21:9": (1536, 640), "2:3": (832, 1216), "3:2": (1216, 832),
    "4:5": (896, 1088), "5:4": (1088, 896), "9:16": (768, 1344), "9:21": (640, 1536),
}  # fmt: skip
STYLES = (
    "3d-model", "analog-film", "anime", "cinematic", "comic-book", "digital-art", "enhance", "fantasy-art",
    "isometric", "line-art", "low-poly", "modeling-compound", "neon-punk", "origami", "photographic",
    "pixel-art", "tile-texture",
)  # fmt: skip
SD3_MODELS = ("sd3.5-large", "sd3.5-large-turbo", "sd3.5-medium", "sd3.5-flash")

COMMON: JSON = {
    "prompt": text(10_000), "negative_prompt": text(10_000, 0), "aspect_ratio": one_of(*SIZES),
    "seed": whole(0, 4_294_967_294), "style_preset": one_of(*STYLES),
    "output_format": one_of("png", "jpeg", "webp"),
}  # fmt: skip
MODELS = {
    "core": checks.validator(checks.schema(["prompt"], **COMMON)),
    "ultra": checks.validator(checks.schema(["prompt"], **COMMON, strength=number(0, 1))),
    "sd3": checks.validator(
        checks.schema(
            ["prompt"], **COMMON, strength=number(0, 1), cfg_scale=number(1, 10), model=one_of(*SD3_MODELS),
            mode=one_of("text-to-image", "image-to-image"),
        )
    ),
}  # fmt: skip


class Stability(Provider):
    """api.stability.ai."""

    name = "stability"

    def authorize(self, request: web.Request) -> None:
        """Raise Refused when the key is missing or wrong."""
        if not self.matches(self.bearer(request)):
            raise Refused(self._error(401, "unauthorized", "missing or invalid authorization header"))

    async def read(self, request: web.Request) -> Asked:
        """Look at a create request. Raises Complaint or Refused."""
        which = request.match_info["model"]
        if which not in MODELS:
            raise Refused(self.trouble(404, f"There is no {which}."))
        accept = request.headers.get("Accept", "*/*")
        if accept not in ("image/*", "application/json", "*/*"):
            raise Complaint("value", "accept", "accept: must be one of image/*, application/json")
        files = () if which == "core" else ("image",)
        numbers = {"seed": int, "strength": float, "cfg_scale": float}
        # Stability's examples make a form multipart that has no files with an empty one, `none`.
        form = await checks.form_body(request, numbers, files, ignored=("none",))
        fields = form.fields
        checks.check(MODELS[which], fields)
        pictures = form.files.get("image", [])
        self._check_pictures(which, fields, pictures)
        if fields.get("output_format", "png") != "png":
            raise Complaint("value", "output_format", "output_format: the local stand-in makes png only")
        width, height = SIZES[fields.get("aspect_ratio", "1:1")]
        if which == "core":
            width, height = (side * 6 // 5 // 64 * 64 for side in (width, height))
        rest = {**fields, "json": accept == "application/json"}
        return Asked(fields["prompt"], fields.get("model", which), 1, width, height, rest)

    @staticmethod
    def _check_pictures(which: str, fields: JSON, pictures: list[bytes]) -> None:
        wanted = fields.get("mode") == "image-to-image" or "strength" in fields
        if wanted and not pictures:
            raise Complaint("missing", "image", "image: required")
        if pictures and "strength" not in fields:
            raise Complaint("missing", "strength", "strength: required with an image")
        if pictures and which == "sd3" and fields.get("mode") != "image-to-image":
            raise Complaint("value", "mode", "mode: must be image-to-image with an image")
        if fields.get("mode") == "image-to-image" and "aspect_ratio" in fields:
            raise Complaint("value", "aspect_ratio", "aspect_ratio: only with mode text-to-image")
        if len(pictures) > 1 or any(checks.image_type(picture) is None for picture in pictures):
            raise Complaint("value", "image", "image: must be one valid image of type jpeg, png or webp")

    async def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Do what was asked, as far as the fault lets it."""
        refused = fault is not None and fault.kind == "refusal"
        if fault and refused and fault["stage"] == "input":
            message = "Your request was flagged by our content moderation system and was denied."
            return self._error(403, fault["code"] or "content_moderation", message)
        seed = asked.rest.get("seed") or secrets.randbelow(4_294_967_294) + 1
        picture = png(asked.width, asked.height, f"stability {secrets.token_hex(8)}")
        reason = "SUCCESS"
        if fault and refused:
            reason = fault["code"] or "CONTENT_FILTERED"  # the picture is there, blurred
        elif fault and fault.kind == "empty":
            picture = b""
        elif fault:
            picture = fault.spoil(picture)
        headers = {"x-request-id": secrets.token_hex(16)}
        if asked.rest["json"]:
            body = {"image": base64.b64encode(picture).decode(), "finish_reason": reason, "seed": seed}
            return json_reply(
                body, content_type="application/json; type=image/png", headers=headers, outputs=[picture]
            )
        headers |= {"finish-reason": reason, "seed": str(seed)}
        return Reply(picture, content_type="image/png", headers=headers, outputs=[picture])

    def complain(self, complaint: Complaint) -> Reply:
        """A 400 in the provider's shape."""
        name = complaint.path
        message = {
            "body": complaint.message,
            "missing": f"{name}: required",
            "unknown": f"{name}: unknown parameter",
            "type": f"{name}: {complaint.message}",
            "value": complaint.message
            if complaint.message.startswith(name)
            else f"{name}: {complaint.message}",
        }[complaint.kind]
        return self._error(400, "bad_request", message)

    def turn_down(self, why: str, model: str) -> Reply:
        """Quota, key or model."""
        if why == "quota":
            message = "You lack sufficient credits to make this request. Please purchase more credits."
            return self._error(402, "payment_required", message)
        if why == "key":
            return self._error(401, "unauthorized", "missing or invalid authorization header")
        return self.trouble(404, f"There is no {model}.")

    def trouble(self, status: int, message: str) -> Reply:
        """Any other error in the provider's shape."""
        names = {404: "not_found", 413: "payload_too_large", 429: "rate_limit_exceeded"}
        return self._error(status, names.get(status, "internal_error"), message)

    @staticmethod
    def _error(status: int, name: str, message: str) -> Reply:
        return json_reply({"id": secrets.token_hex(16), "name": name, "errors": [message]}, status)
