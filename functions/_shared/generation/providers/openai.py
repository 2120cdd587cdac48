"""OpenAI's Images API: POST /images/generations, and /images/edits where the user gives images.

https://platform.openai.com/docs/api-reference/images
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .protocol import (
    Ask,
    Delivered,
    Provider,
    Reply,
    Tokens,
    Work,
    from_base64,
    object_at,
    objects_in,
    token_count,
)

REFUSALS = ("moderation_blocked", "content_policy_violation")
# Waiting helps with none of them. All come as 429 but the last two.
QUOTAS = (
    "insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded", "billing_hard_limit_reached", "billing_not_active",
)  # fmt: skip


class Sizes(Collection[Any]):
    """WIDTHxHEIGHT up to 4K: multiples of 16, at most 3840 and 3:1, from 0.65 to 8.3 megapixels; or auto."""

    def __contains__(self, size: object) -> bool:
        found = re.fullmatch(r"([1-9]\d{2,3})x([1-9]\d{2,3})", str(size))
        if not found:
            return size == "auto"
        low, high = sorted((int(found[1]), int(found[2])))
        return (
            not (low % 16 or high % 16) and high <= min(3840, 3 * low) and 655_360 <= low * high <= 8_294_400
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(("auto", "1024x1024", "3840x2160"))

    def __len__(self) -> int:
        return 3


class OpenAI(Provider):
    """The gpt-image models. They answer with base64, and make up to ten images a request."""

    env = "OPENAI"
    base_url = "https://api.openai.com/v1"
    outputs_per_request = 10
    max_images = 16
    takes_mask = True

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        return {
            "size": Sizes(),
            "quality": {"low", "medium", "high", "xhigh", "max", "auto"},
            "complexity": {"low", "medium", "high"},
            "background": {"transparent", "opaque", "auto"},
            "output_format": {"png", "jpeg", "webp"},
        }

    def ask(self, work: Work) -> Ask:
        fields = {"model": work.model, "prompt": work.prompt, "n": work.n, **work.options}
        if not work.images:
            return Ask("/images/generations", json=fields)
        files = [
            ("image[]", (f"{index}.{image.extension}", image.data, image.mime_type))
            for index, image in enumerate(work.images)
        ]
        if work.mask:
            files.append(("mask", (f"mask.{work.mask.extension}", work.mask.data, work.mask.mime_type)))
        return Ask("/images/edits", data={name: str(value) for name, value in fields.items()}, files=files)

    def read(self, reply: Reply, work: Work) -> Delivered:
        return Delivered([from_base64(item.get("b64_json")) for item in objects_in(reply.json().get("data"))])

    def tokens(self, reply: Reply, work: Work) -> Tokens:
        usage = object_at(reply.json(), "usage")
        sent, made = object_at(usage, "input_tokens_details"), object_at(usage, "output_tokens_details")
        images, words = token_count(sent.get("image_tokens")), token_count(made.get("text_tokens"))
        found = {
            # Of what it does not say, what goes in is text and what comes out are images.
            "input_text": max(token_count(usage.get("input_tokens")) - images, 0), "input_image": images,
            "output_text": words, "output_image": max(token_count(usage.get("output_tokens")) - words, 0),
        }  # fmt: skip
        return {kind: number for kind, number in found.items() if number}

    def refused(self, reply: Reply) -> bool:
        return object_at(reply.json(), "error").get("code") in REFUSALS

    def failure(self, reply: Reply) -> str:
        error = object_at(reply.json(), "error")
        if error.get("code") in QUOTAS or error.get("type") == "insufficient_quota":
            return "quota"
        # 404, or 403 where the account never had it.
        return "gone" if error.get("code") == "model_not_found" else super().failure(reply)


PROVIDER = OpenAI()
