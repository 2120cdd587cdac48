"""Gemini's generateContent: images or text, as the price says, from a prompt and the user's images.

https://ai.google.dev/api/generate-content
"""

import base64
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from .protocol import (
    Ask,
    Delivered,
    Provider,
    Refused,
    Reply,
    Tokens,
    Work,
    from_base64,
    object_at,
    objects_in,
    token_count,
)

# finishReason when the model stopped for policy. A blocked prompt has promptFeedback.blockReason instead.
REFUSALS = frozenset(
    {"SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "SPII",
     "RECITATION", "IMAGE_RECITATION"}
)  # fmt: skip
RATIOS = {"1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9"}
SIZES = {"1K", "2K", "4K"}


class Google(Provider):
    """Gemini. One output per request: the image models know no candidateCount."""

    env = "GEMINI"
    base_url = "https://generativelanguage.googleapis.com"
    max_images = 14
    outputs = ("image", "text")

    def headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        seed = {"seed": range(2**31)}
        return {"aspect_ratio": RATIOS, "image_size": SIZES, **seed} if work.output == "image" else seed

    def ask(self, work: Work) -> Ask:
        parts: list[dict[str, Any]] = [{"text": work.prompt}]
        parts += [
            {"inlineData": {"mimeType": image.mime_type, "data": base64.b64encode(image.data).decode()}}
            for image in work.images
        ]
        config: dict[str, Any] = {"responseModalities": [work.output.upper()]}
        if "seed" in work.options:
            config["seed"] = work.options["seed"]
        names = {"aspect_ratio": "aspectRatio", "image_size": "imageSize"}
        picture = {name: work.options[option] for option, name in names.items() if option in work.options}
        if picture:
            config["imageConfig"] = picture
        return Ask(
            f"/v1beta/models/{quote(work.model, safe='')}:generateContent",
            json={"contents": [{"role": "user", "parts": parts}], "generationConfig": config},
        )

    def read(self, reply: Reply, work: Work) -> Delivered | Refused:
        answer = reply.json()
        if object_at(answer, "promptFeedback").get("blockReason"):
            return Refused()
        candidate = next(iter(objects_in(answer.get("candidates"))), {})
        parts = [
            part
            for part in objects_in(object_at(candidate, "content").get("parts"))
            if not part.get("thought")
        ]
        files = [
            from_base64(object_at(part, "inlineData").get("data")) for part in parts if "inlineData" in part
        ]
        text = "".join(part["text"] for part in parts if isinstance(part.get("text"), str)).strip()
        if candidate.get("finishReason") in REFUSALS and not files:
            return Refused()
        if work.output == "image":
            return Delivered(files[:1])  # a text beside the image is chat
        return Delivered(texts=[text] if text else [])

    def tokens(self, reply: Reply, work: Work) -> Tokens:
        usage = object_at(reply.json(), "usageMetadata")
        found: Counter[str] = Counter()
        for way, name in (("input", "prompt"), ("output", "candidates")):
            left = token_count(usage.get(f"{name}TokenCount"))
            for item in objects_in(usage.get(f"{name}TokensDetails")):
                kind = "image" if item.get("modality") == "IMAGE" else "text"
                found[f"{way}_{kind}"] += token_count(item.get("tokenCount"))
                left -= token_count(item.get("tokenCount"))
            # Of what it does not say, all that comes out is what was asked for.
            found[f"{way}_{'image' if way == 'output' and work.output == 'image' else 'text'}"] += max(
                left, 0
            )
        found["output_text"] += token_count(usage.get("thoughtsTokenCount"))
        return {kind: number for kind, number in found.items() if number}

    def failure(self, reply: Reply) -> str:
        error = object_at(reply.json(), "error")
        details = objects_in(error.get("details"))
        if any(str(item.get("reason")).startswith("API_KEY_") for item in details):
            return "key"
        message = str(error.get("message")).lower()
        quotas = [
            str(quota.get("quotaId")) for item in details for quota in objects_in(item.get("violations"))
        ]
        if reply.status == 429 and ("depleted" in message or any("PerDay" in quota for quota in quotas)):
            return "quota"
        if error.get("status") == "FAILED_PRECONDITION" and "billing" in message:
            return "quota"
        return super().failure(reply)


PROVIDER = Google()
