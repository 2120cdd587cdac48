"""Runway's video: POST /v1/image_to_video or /v1/text_to_video starts a task, GET /v1/tasks/{id} tells of it.

https://docs.dev.runwayml.com/api
"""

import base64
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from .protocol import (
    UNUSABLE,
    Ask,
    Delivered,
    Failed,
    Provider,
    Refused,
    Reply,
    Started,
    Work,
    Working,
    need_image,
)

FROM_IMAGE_ONLY = ("gen4_turbo", "gen3a_turbo")
RATIOS = {"16:9": "1280:720", "9:16": "720:1280", "4:3": "1104:832", "3:4": "832:1104", "1:1": "960:960",
          "21:9": "1584:672"}  # fmt: skip
WAITING = ("PENDING", "THROTTLED", "RUNNING")


class Runway(Provider):
    """One video a task, which takes minutes."""

    env = "RUNWAY"
    base_url = "https://api.dev.runwayml.com"
    most = 1
    images = 1
    prompt_limit = 1000
    hosts = (".cloudfront.net", ".runwayml.com")

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", "X-Runway-Version": "2024-11-06"}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        return {"aspect_ratio": RATIOS.keys(), "duration": range(2, 11), "seed": range(2**32)}

    def check(self, work: Work) -> None:
        super().check(work)
        if work.model in FROM_IMAGE_ONLY:
            need_image(work)

    def ask(self, work: Work) -> Ask:
        fields: dict[str, Any] = {
            "model": work.model,
            "promptText": work.prompt,
            "ratio": RATIOS[work.options.get("aspect_ratio", "16:9")],
            "duration": work.options.get("duration", 5),
        }
        if "seed" in work.options:
            fields["seed"] = work.options["seed"]
        for image in work.images:
            encoded = base64.b64encode(image.data).decode()
            return Ask(
                "/v1/image_to_video",
                json={**fields, "promptImage": f"data:{image.mime_type};base64,{encoded}"},
            )
        return Ask("/v1/text_to_video", json=fields)

    def read(self, reply: Reply, work: Work) -> Started | Delivered:
        task = reply.json().get("id")
        return Started(task) if isinstance(task, str) and 0 < len(task) <= 500 else Delivered()

    def poll(self, task: str) -> Ask:
        return Ask(f"/v1/tasks/{quote(task, safe='')}", method="GET")

    def read_poll(self, reply: Reply) -> Delivered | Working | Refused | Failed:
        answer = reply.json()
        status = answer.get("status")
        if status in WAITING:
            return Working()
        if status == "SUCCEEDED":
            links = answer.get("output")
            return Delivered(
                links=[link for link in links if isinstance(link, str)][:1] if isinstance(links, list) else []
            )
        if status == "CANCELLED":
            return Failed(409, "canceled", "The provider canceled the job.")
        # Such as SAFETY.INPUT.TEXT and INPUT_PREPROCESSING.SAFETY.TEXT
        return Refused() if "SAFETY" in str(answer.get("failureCode")) else UNUSABLE

    def cancel(self, task: str) -> Ask:
        return Ask(f"/v1/tasks/{quote(task, safe='')}", method="DELETE")


PROVIDER = Runway()
