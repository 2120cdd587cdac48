"""Stability's Stable Image, v2beta: POST /v2beta/stable-image/generate/{core, ultra, sd3}.

https://platform.stability.ai/docs/api-reference
"""

from collections.abc import Collection, Mapping
from typing import Any

from .protocol import Ask, Delivered, Provider, Refused, Reply, Work

SERVICES = {"stable-image-core": "core", "stable-image-ultra": "ultra"}  # any other model is one of sd3's
RATIOS = {"1:1", "2:3", "3:2", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9"}


class Stability(Provider):
    """Answers with the image itself, one per request."""

    env = "STABILITY"
    base_url = "https://api.stability.ai"
    max_images = 0  # its way to change an image is another endpoint

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        return {
            "aspect_ratio": RATIOS,
            "seed": range(2**32 - 1),
            "output_format": {"png", "jpeg", "webp"} if work.model in SERVICES else {"png", "jpeg"},
        }

    def ask(self, work: Work) -> Ask:
        fields = {"prompt": work.prompt, "output_format": "png", **work.options}
        if work.model not in SERVICES:
            fields["model"] = work.model
        # Multipart is all it reads, also without a file.
        parts = [(name, (None, str(value).encode(), "text/plain")) for name, value in fields.items()]
        path = f"/v2beta/stable-image/generate/{SERVICES.get(work.model, 'sd3')}"
        return Ask(path, files=parts, headers={"Accept": "image/*"})

    def read(self, reply: Reply, work: Work) -> Delivered | Refused:
        if reply.headers.get("finish-reason") == "CONTENT_FILTERED":
            return Refused()  # the image that comes with it is blurred
        return Delivered([reply.body])

    def refused(self, reply: Reply) -> bool:
        return reply.json().get("name") == "content_moderation"


PROVIDER = Stability()
