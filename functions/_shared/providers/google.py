"""Gemini's generateContent: images out of the image models, text about the user's images out of the others.

https://ai.google.dev/api/generate-content
"""

import base64
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from .protocol import Ask, Delivered, Provider, Refused, Reply, Work, decoded, inner, listed

# finishReason when the model stopped for policy. A blocked prompt has promptFeedback.blockReason instead.
REFUSALS = frozenset(
    {"SAFETY", "IMAGE_SAFETY", "PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT", "BLOCKLIST", "SPII",
     "RECITATION", "IMAGE_RECITATION"}
)  # fmt: skip
RATIOS = {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"}


class Google(Provider):
    """Gemini. One output a request: the image models know no candidateCount."""

    env = "GEMINI"
    base_url = "https://generativelanguage.googleapis.com"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        seed = {"seed": range(2**31)}
        return {"aspect_ratio": RATIOS, **seed} if _makes_images(work.model) else seed

    def ask(self, work: Work) -> Ask:
        parts: list[dict[str, Any]] = [{"text": work.prompt}]
        parts += [
            {"inlineData": {"mimeType": image.mime_type, "data": base64.b64encode(image.data).decode()}}
            for image in work.images
        ]
        config: dict[str, Any] = {"responseModalities": ["IMAGE" if _makes_images(work.model) else "TEXT"]}
        if "seed" in work.options:
            config["seed"] = work.options["seed"]
        if "aspect_ratio" in work.options:
            config["imageConfig"] = {"aspectRatio": work.options["aspect_ratio"]}
        return Ask(
            f"/v1beta/models/{quote(work.model, safe='')}:generateContent",
            json={"contents": [{"role": "user", "parts": parts}], "generationConfig": config},
        )

    def read(self, reply: Reply, work: Work) -> Delivered | Refused:
        answer = reply.json()
        if inner(answer, "promptFeedback").get("blockReason"):
            return Refused()
        candidate = next(iter(listed(answer.get("candidates"))), {})
        parts = [part for part in listed(inner(candidate, "content").get("parts")) if not part.get("thought")]
        files = [decoded(inner(part, "inlineData").get("data")) for part in parts if "inlineData" in part]
        text = "".join(part["text"] for part in parts if isinstance(part.get("text"), str)).strip()
        if candidate.get("finishReason") in REFUSALS and not files:
            return Refused()
        if _makes_images(work.model):
            return Delivered(files[:1])  # a text beside the image is chat
        return Delivered(texts=[text] if text else [])


def _makes_images(model: str) -> bool:
    return "image" in model


PROVIDER = Google()
