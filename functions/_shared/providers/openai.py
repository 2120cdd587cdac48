"""OpenAI's Images API: POST /images/generations, and /images/edits where the user gives images.

https://platform.openai.com/docs/api-reference/images
"""

from collections.abc import Collection, Mapping
from typing import Any

from .protocol import Ask, Delivered, Provider, Reply, Work, decoded, inner, listed, need_image

REFUSALS = ("moderation_blocked", "content_policy_violation")


class OpenAI(Provider):
    """The gpt-image models. They answer with base64, and make up to ten images a request."""

    env = "OPENAI"
    base_url = "https://api.openai.com/v1"
    batch = 10

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        return {
            "size": {"1024x1024", "1536x1024", "1024x1536", "auto"},
            "quality": {"low", "medium", "high", "auto"},
            "background": {"transparent", "opaque", "auto"},
            "output_format": {"png", "jpeg", "webp"},
        }

    def check(self, work: Work) -> None:
        super().check(work)
        if work.operation.endswith("_edit"):
            need_image(work)

    def ask(self, work: Work) -> Ask:
        fields = {"model": work.model, "prompt": work.prompt, "n": work.n, **work.options}
        if not work.images:
            return Ask("/images/generations", json=fields)
        files = [
            ("image[]", (f"{index}.{image.extension}", image.data, image.mime_type))
            for index, image in enumerate(work.images)
        ]
        return Ask("/images/edits", data={name: str(value) for name, value in fields.items()}, files=files)

    def read(self, reply: Reply, work: Work) -> Delivered:
        return Delivered([decoded(item.get("b64_json")) for item in listed(reply.json().get("data"))])

    def refused(self, reply: Reply) -> bool:
        return inner(reply.json(), "error").get("code") in REFUSALS


PROVIDER = OpenAI()
