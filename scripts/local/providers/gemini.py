"""Gemini: POST /v1beta/models/MODEL:generateContent. Images are made here; text comes from aimock.

The shapes are those of the Gemini API reference (GenerateContentRequest, GenerateContentResponse,
FinishReason, BlockReason) and of google.rpc.Status.
"""

import base64
import binascii
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from . import checks
from .checks import JSON, Complaint, number, one_of, text, whole
from .faults import Fault
from .png import png
from .provider import Asked, Provider, Refused, Reply, json_reply

# Those of Google's list in November 2026. Any other is answered as a retired one is.
TEXT_MODELS = (
    "gemini-3.8-flash",
    "gemini-3.7-flash",
    "gemini-3.6-flash",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
)
IMAGE_MODELS = ("gemini-nano-banana-2.1", "gemini-3-pro-image")
# Width and height by aspect ratio, of imageSize 1K.
SIZES = {
    "1:1": (1024, 1024), "2:3": (832, 1248), "3:2": (1248, 832), "3:4": (864, 1184), "4:3": (1184, 864),
    "4:5": (896, 1152), "5:4": (1152, 896), "9:16": (768, 1344), "16:9": (1344, 768), "21:9": (1536, 672),
    "1:4": (512, 2048), "4:1": (2048, 512), "1:8": (352, 2816), "8:1": (2816, 352),
}  # fmt: skip
IMAGE_TOKENS = {"1K": 1120, "2K": 1680, "4K": 3780}  # $0.0336 to $0.1134 at $30 a million
MAX_INLINE = 20 * 1024 * 1024  # bytes of a whole request with inline data

PART = {
    "type": "object", "additionalProperties": False, "minProperties": 1,
    "properties": {
        "text": {"type": "string"}, "thought": {"type": "boolean"}, "thoughtSignature": {"type": "string"},
        "inlineData": checks.schema(["mimeType", "data"], mimeType=text(100), data=text(MAX_INLINE)),
    },
}  # fmt: skip
CONTENT = checks.schema(
    ["parts"], role=one_of("user", "model"), parts={"type": "array", "minItems": 1, "items": PART}
)
GENERATION_CONFIG = checks.schema(
    [], responseModalities={"type": "array", "items": one_of("TEXT", "IMAGE")}, candidateCount=whole(1, 8),
    imageConfig=checks.schema([], aspectRatio=one_of(*SIZES), imageSize=one_of("1K", "2K", "4K")),
    temperature=number(0, 2), topP=number(0, 1), topK=whole(1, 1000), maxOutputTokens=whole(1, 65_536),
    seed={"type": "integer"}, stopSequences={"type": "array", "items": text(100), "maxItems": 5},
    responseMimeType=one_of("text/plain", "application/json"), responseSchema={"type": "object"},
    thinkingConfig={"type": "object"}, mediaResolution={"type": "string"},
)  # fmt: skip
REQUEST = checks.validator(
    checks.schema(
        ["contents"], contents={"type": "array", "minItems": 1, "items": CONTENT}, systemInstruction=CONTENT,
        generationConfig=GENERATION_CONFIG, tools={"type": "array"}, toolConfig={"type": "object"},
        safetySettings={
            "type": "array",
            "items": checks.schema(["category", "threshold"], category=text(100), threshold=text(100)),
        },
    )
)  # fmt: skip


def camel(value: Any) -> Any:
    """Field names in camelCase: protobuf's JSON takes snake_case as well."""
    if isinstance(value, dict):
        return {re.sub(r"_([a-z])", lambda m: m[1].upper(), str(k)): camel(v) for k, v in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


class Gemini(Provider):
    """generativelanguage.googleapis.com. `ask_aimock(path, body)` gives a model's words."""

    name = "gemini"

    def __init__(self, key: str, ask_aimock: Callable[[str, bytes], Awaitable[Reply]]) -> None:
        super().__init__(key)
        self.ask_aimock = ask_aimock

    def authorize(self, request: web.Request) -> None:
        """Raise Refused when the key is missing or wrong."""
        given = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        if not given:
            message = "Method doesn't allow unregistered callers (callers without established identity)."
            raise Refused(self._error(403, message, "PERMISSION_DENIED"))
        if not self.matches(given):
            raise Refused(self.turn_down("key", ""))

    async def read(self, request: web.Request) -> Asked:
        """Look at a create request. Raises Complaint or Refused."""
        model = request.match_info["model"]
        if model not in TEXT_MODELS + IMAGE_MODELS:
            raise Refused(self.turn_down("model", model))
        body = camel(await checks.json_body(request))
        checks.check(REQUEST, body)
        parts = [part for content in body["contents"] for part in content["parts"]]
        for part in parts:
            if "inlineData" in part:
                self._check_picture(part["inlineData"])
        prompt = "\n".join(part["text"] for part in parts if "text" in part)
        config = body.get("generationConfig", {})
        if model in TEXT_MODELS:
            if "imageConfig" in config or "IMAGE" in config.get("responseModalities", []):
                raise Complaint("value", "generationConfig", "This model only supports text output.")
            return Asked(prompt, model, rest={"body": body})
        image = config.get("imageConfig", {})
        if config.get("candidateCount", 1) != 1:
            raise Complaint(
                "value",
                "generationConfig.candidateCount",
                "Multiple candidates is not enabled for this model",
            )
        if "responseModalities" in config and "IMAGE" not in config["responseModalities"]:
            raise Complaint("value", "generationConfig.responseModalities", "This model answers with images.")
        size = image.get("imageSize", "1K")
        times = {"1K": 1, "2K": 2, "4K": 4}[size]
        width, height = SIZES[image.get("aspectRatio", "1:1")]
        return Asked(prompt, model, 1, width * times, height * times, {"body": body, "size": size})

    @staticmethod
    def _check_picture(inline: JSON) -> None:
        try:
            data = base64.b64decode(inline["data"], validate=True)
        except binascii.Error:
            raise Complaint("value", "contents.parts.inlineData.data", "Base64 decoding failed") from None
        if inline["mimeType"].startswith("image/") and checks.image_type(data) != inline["mimeType"]:
            raise Complaint("value", "contents.parts.inlineData", "Unable to process input image.")

    async def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Do what was asked, as far as the fault lets it."""
        tokens = len(asked.prompt) // 4 + 1
        body: JSON = {"modelVersion": asked.model, "responseId": secrets.token_urlsafe(16)}
        if fault and fault.kind == "refusal":
            body["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
            if fault["stage"] == "input":
                body["promptFeedback"] = {"blockReason": fault["code"] or "PROHIBITED_CONTENT"}
            else:
                reason = fault["code"] or ("IMAGE_SAFETY" if asked.model in IMAGE_MODELS else "SAFETY")
                message = "The output was blocked. Please rephrase the prompt."
                body["candidates"] = [
                    {"content": {}, "finishReason": reason, "finishMessage": message, "index": 0}
                ]
            return json_reply(body)
        if fault and fault.kind == "empty":
            body["candidates"] = [{"content": {"role": "model"}, "finishReason": "STOP", "index": 0}]
            body["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
            return json_reply(body)
        if asked.model in TEXT_MODELS:
            reply = await self.ask_aimock(
                f"/v1beta/models/{asked.model}:generateContent", json.dumps(asked.rest["body"]).encode()
            )
            return self._spoiled_text(reply, fault) if fault else reply
        picture = png(asked.width, asked.height, f"gemini {body['responseId']}")
        picture = fault.spoil(picture) if fault else picture
        inline = {"mimeType": "image/png", "data": base64.b64encode(picture).decode()}
        parts: list[JSON] = [{"inlineData": inline}]
        if "TEXT" in asked.rest["body"].get("generationConfig", {}).get("responseModalities", ["TEXT"]):
            parts.insert(0, {"text": "Here is your image: "})
        body["candidates"] = [
            {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
        ]
        made = IMAGE_TOKENS[asked.rest["size"]]
        body["usageMetadata"] = {
            "promptTokenCount": tokens, "candidatesTokenCount": made, "totalTokenCount": tokens + made,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": made}],
        }  # fmt: skip
        return json_reply(body, outputs=[picture])

    @staticmethod
    def _spoiled_text(reply: Reply, fault: Fault) -> Reply:
        if fault.kind == "oversize":  # JSON may end in any amount of white space
            return Reply(reply.body + b" " * (fault.options["mb"] * 1024 * 1024), headers=reply.headers)
        return Reply(fault.spoil(reply.body), headers=reply.headers)

    def complain(self, complaint: Complaint) -> Reply:
        """A 400 in the provider's shape."""
        name = complaint.path
        last = name.rpartition(".")[2]
        message = {
            "body": f"Invalid JSON payload received. {complaint.message}",
            "missing": f"* GenerateContentRequest.{name}: {name} is not specified",
            "unknown": f'Invalid JSON payload received. Unknown name "{last}": Cannot find field.',
            "type": f"Invalid value at '{name}': {complaint.message}",
            "value": f"Invalid value at '{name}': {complaint.message}",
        }[complaint.kind]
        violation = {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": name, "description": message}],
        }
        return self._error(400, message, "INVALID_ARGUMENT", [violation])

    def turn_down(self, why: str, model: str) -> Reply:
        """Quota, key or model."""
        kind = "type.googleapis.com/google.rpc"
        if why == "key":
            info = {
                "@type": f"{kind}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com",
                "metadata": {"service": "generativelanguage.googleapis.com"},
            }  # fmt: skip
            message = "API key not valid. Please pass a valid API key."
            return self._error(400, message, "INVALID_ARGUMENT", [info])
        if why == "quota":
            quota = {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_paid_tier_requests",
                "quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaValue": "1000",
            }  # fmt: skip
            message = "You exceeded your current quota, please check your plan and billing details."
            failure = {"@type": f"{kind}.QuotaFailure", "violations": [quota]}
            return self._error(429, message, "RESOURCE_EXHAUSTED", [failure])
        message = (
            f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
        )
        return self._error(404, message, "NOT_FOUND")

    def trouble(self, status: int, message: str) -> Reply:
        """Any other error in the provider's shape."""
        names = {
            404: "NOT_FOUND",
            413: "INVALID_ARGUMENT",
            429: "RESOURCE_EXHAUSTED",
            503: "UNAVAILABLE",
            504: "DEADLINE_EXCEEDED",
        }
        return self._error(status, message, names.get(status, "INTERNAL"))

    @staticmethod
    def _error(code: int, message: str, status: str, details: list[JSON] | None = None) -> Reply:
        error: JSON = {"code": code, "message": message, "status": status}
        if details:
            error["details"] = details
        return json_reply({"error": error}, code)
