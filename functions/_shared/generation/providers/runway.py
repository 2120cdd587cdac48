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
    NotSetUpError,
    Provider,
    Refused,
    Reply,
    Started,
    Work,
    Working,
    need_image,
    objects_in,
)

FROM_IMAGE_ONLY = ("gen4_turbo",)
RATIOS = {"16:9": "1280:720", "9:16": "720:1280", "4:3": "1104:832", "3:4": "832:1104", "1:1": "960:960",
          "21:9": "1584:672"}  # fmt: skip
# Of Google's models at Runway, by resolution.
VEO_RATIOS = {
    "720p": {"16:9": "1280:720", "9:16": "720:1280"}, "1080p": {"16:9": "1920:1080", "9:16": "1080:1920"},
}  # fmt: skip
WAITING = ("PENDING", "THROTTLED", "RUNNING")


class Runway(Provider):
    """One video per task, which takes minutes."""

    env = "RUNWAY"
    base_url = "https://api.dev.runwayml.com"
    max_outputs = 1
    max_images = 2  # the first frame, and of veo3.1 the last
    outputs = ("video",)
    prompt_limit = 1000
    hosts = (".cloudfront.net", ".runwayml.com")

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}", "X-Runway-Version": "2024-11-06"}

    def options(self, work: Work) -> Mapping[str, Collection[Any]]:
        if _is_veo(work):
            return {
                "aspect_ratio": VEO_RATIOS["720p"].keys(), "resolution": VEO_RATIOS.keys(),
                "duration": {8} if work.model == "veo3" else {4, 6, 8}, "audio": {"on", "off"},
            }  # fmt: skip
        ratios = RATIOS.keys() if work.images else ("16:9", "9:16")
        return {"aspect_ratio": ratios, "duration": range(2, 11), "seed": range(2**32)}

    def check(self, work: Work) -> None:
        super().check(work)
        if work.model in FROM_IMAGE_ONLY:
            need_image(work)
        if len(work.images) > 1 and not work.model.startswith("veo3.1"):
            raise NotSetUpError(
                f"{work.model} takes one image: terms.inputs.max of {work.operation} is over."
            )

    def ask(self, work: Work) -> Ask:
        ratio = work.options.get("aspect_ratio", "16:9")
        fields: dict[str, Any] = {"model": work.model, "promptText": work.prompt}
        if _is_veo(work):
            fields["ratio"] = VEO_RATIOS[work.options.get("resolution", "720p")][ratio]
            fields["duration"] = work.options.get("duration", 8)
            if "audio" in work.options:
                fields["audio"] = work.options["audio"] == "on"
        else:
            fields["ratio"] = RATIOS[ratio]
            fields["duration"] = work.options.get("duration", 5)
        if "seed" in work.options:
            fields["seed"] = work.options["seed"]
        frames = [
            f"data:{image.mime_type};base64,{base64.b64encode(image.data).decode()}" for image in work.images
        ]
        if len(frames) > 1:
            places = zip(("first", "last"), frames, strict=True)
            fields["promptImage"] = [{"uri": uri, "position": position} for position, uri in places]
        elif frames:
            fields["promptImage"] = frames[0]
        return Ask("/v1/image_to_video" if frames else "/v1/text_to_video", json=fields)

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

    def failure(self, reply: Reply) -> str:
        answer = reply.json()
        words = str(answer.get("error")).lower()
        if "enough credits" in words or (reply.status == 429 and "daily" in words):
            return "quota"
        if any(issue.get("path") == ["model"] for issue in objects_in(answer.get("issues"))):
            return "gone"
        return super().failure(reply)


def _is_veo(work: Work) -> bool:
    return work.model.startswith("veo")


PROVIDER = Runway()
