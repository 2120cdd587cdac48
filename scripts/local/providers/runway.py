"""Runway: POST /v1/text_to_video and /v1/image_to_video make tasks; GET and DELETE /v1/tasks/ID.

The shapes are those of Runway's API reference and its Python SDK (types/task_retrieve_response.py,
*_to_video_create_params.py). A task moves on by being polled, not by the clock: tests need no waiting.
"""

import base64
import binascii
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web

from . import checks
from .checks import JSON, Complaint, one_of, text, whole
from .faults import Fault
from .mp4 import mp4
from .provider import Asked, Provider, Refused, Reply, json_reply

VERSION = "2024-11-06"
KEPT_TASKS = 20_000
MAX_DATA_URI = 5 * 1024 * 1024  # characters

GEN4 = ("1280:720", "720:1280", "1104:832", "832:1104", "960:960", "1584:672")
VEO = ("1280:720", "720:1280", "1080:1920", "1920:1080")
MODERATION = checks.schema([], publicFigureThreshold=one_of("auto", "low"))
SEED = whole(0, 4_294_967_295)


def _image(*positions: str) -> JSON:
    item = checks.schema(["uri", "position"], uri=text(MAX_DATA_URI), position=one_of(*positions))
    return {
        "anyOf": [
            text(MAX_DATA_URI),
            {"type": "array", "minItems": 1, "maxItems": len(positions), "items": item},
        ]
    }


def _forms() -> dict[tuple[str, str], JSON]:
    """The schema of a request by path and model. `duration` is in seconds."""
    words, model = text(1000), {"type": "string"}
    gen = {"promptText": words, "model": model, "seed": SEED, "contentModeration": MODERATION}
    veo = {"promptText": words, "model": model, "ratio": one_of(*VEO)}
    fast = {**veo, "duration": one_of(4, 6, 8), "audio": {"type": "boolean"}}
    forms = {
        ("text_to_video", "gen4.5"): checks.schema(
            ["promptText", "ratio", "duration"], **gen, ratio=one_of("1280:720", "720:1280"),
            duration=whole(2, 10),
        ),
        ("image_to_video", "gen4.5"): checks.schema(
            ["promptText", "promptImage", "ratio", "duration"], **gen, ratio=one_of(*GEN4),
            duration=whole(2, 10), promptImage=_image("first"),
        ),
        ("image_to_video", "gen4_turbo"): checks.schema(
            ["promptImage", "ratio"], **gen, ratio=one_of(*GEN4), duration=whole(2, 10),
            promptImage=_image("first"),
        ),
    }  # fmt: skip
    for name, fields, needed in (
        ("veo3.1", fast, ["ratio"]),
        ("veo3.1_fast", fast, ["ratio"]),
        ("veo3", {**veo, "duration": one_of(8)}, ["ratio", "duration"]),
    ):
        both = ("first",) if name == "veo3" else ("first", "last")
        forms["text_to_video", name] = checks.schema(["promptText", *needed], **fields)
        forms["image_to_video", name] = checks.schema(
            ["promptImage", *needed], **fields, promptImage=_image(*both)
        )
    return forms


FORMS = {key: checks.validator(form) for key, form in _forms().items()}


@dataclass
class Task:
    """One task. `polls` counts how often it was asked for."""

    id: str
    asked: Asked
    fault: Fault | None
    created: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    )
    polls: int = 0


@dataclass
class Pace:
    """How many polls a task stays in each state. `hold`: none goes beyond RUNNING."""

    pending: int = 1
    running: int = 1
    hold: bool = False


class Runway(Provider):
    """api.dev.runwayml.com. `public` is the base of the URLs of outputs."""

    name = "runway"

    def __init__(self, key: str, public: str) -> None:
        super().__init__(key)
        self.public = public
        self.tasks: OrderedDict[str, Task] = OrderedDict()
        self.pace = Pace()

    def reset(self) -> None:
        """Forget all tasks."""
        self.tasks.clear()
        self.pace = Pace()

    def authorize(self, request: web.Request) -> None:
        """Raise Refused when the key is missing or wrong."""
        if not self.matches(self.bearer(request)):
            raise Refused(self.trouble(401, "You did not provide an API key." if not self.bearer(request)
                                       else "The provided API key is not valid."))  # fmt: skip
        version = request.headers.get("X-Runway-Version")
        if version != VERSION:
            what = f"X-Runway-Version is {version!r}" if version else "The X-Runway-Version header is missing"
            raise Refused(self.trouble(400, f"{what}; send {VERSION}."))

    async def read(self, request: web.Request) -> Asked:
        """Look at a create request. Raises Complaint or Refused."""
        path = request.path.rpartition("/")[2]
        body = await checks.json_body(request)
        model = body.get("model") if isinstance(body, dict) else None
        if (path, model) not in FORMS:
            models = [name for way, name in FORMS if way == path]
            if isinstance(body, dict) and "model" not in body:
                raise Complaint("missing", "model", "Required")
            raise Complaint("value", "model", f"Invalid discriminator value. Expected {' | '.join(models)}")
        checks.check(FORMS[path, str(model)], body)
        image = body.get("promptImage", [])
        for uri in [image] if isinstance(image, str) else [item["uri"] for item in image]:
            self._check_uri(uri)
        width, height = (int(side) for side in body["ratio"].split(":"))
        default = 5 if str(model).startswith("gen4") else 8
        rest = {"duration": body.get("duration", default)}
        return Asked(body.get("promptText", ""), str(model), 1, width, height, rest)

    @staticmethod
    def _check_uri(uri: str) -> None:
        if not uri.startswith("data:"):
            parts = urlsplit(uri)
            if parts.scheme != "https":
                raise Complaint("value", "promptImage", "Only HTTPS URLs are allowed.")
            if not parts.hostname or "." not in parts.hostname or parts.hostname.replace(".", "").isdigit():
                raise Complaint("value", "promptImage", "URLs must be hosted on a domain.")
            return
        head, _, data = uri.partition(",")
        kind, _, encoding = head.removeprefix("data:").partition(";")
        try:
            picture = base64.b64decode(data, validate=True) if encoding == "base64" else b""
        except binascii.Error:
            picture = b""
        if not picture:
            raise Complaint("value", "promptImage", "Invalid data URI.")
        if checks.image_type(picture) != kind:
            raise Complaint("value", "promptImage", "Unsupported asset type.")

    async def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Do what was asked, as far as the fault lets it."""
        task = Task(str(uuid.uuid4()), asked, fault)
        self.tasks[task.id] = task
        while len(self.tasks) > KEPT_TASKS:
            self.tasks.popitem(last=False)
        return json_reply({"id": task.id}, task=task.id)

    def poll(self, task: Task) -> Reply:
        """GET /v1/tasks/ID."""
        task.polls += 1
        body: JSON = {"id": task.id, "createdAt": task.created}
        beyond = task.polls - self.pace.pending
        if beyond <= 0:
            body["status"] = "PENDING"
        elif beyond <= self.pace.running or self.pace.hold:
            body |= {"status": "RUNNING", "progress": min(beyond / (self.pace.running + 1), 0.99)}
        else:
            body |= self._end(task)
        return json_reply(body)

    def _end(self, task: Task) -> JSON:
        fault = task.fault
        if fault and fault.kind == "refusal":
            default = "SAFETY.INPUT.TEXT" if fault["stage"] == "input" else "SAFETY.OUTPUT.VIDEO"
            failure = "The content was flagged by our moderation system."
            return {"status": "FAILED", "failure": failure, "failureCode": fault["code"] or default}
        if fault and fault.kind == "task_failed":
            return {
                "status": "FAILED",
                "failure": "An unexpected error occurred.",
                "failureCode": fault["code"],
            }
        if fault and fault.kind == "empty":
            return {"status": "SUCCEEDED", "output": []}
        url = f"{self.public}/outputs/{task.id}.mp4?_jwt=local"
        if fault and fault.kind == "redirect":
            url = f"{self.public}/outputs/{task.id}/moved.mp4?_jwt=local"
        if fault and fault.kind == "other_host":
            url = fault["url"] or url.replace("127.0.0.1", fault["host"], 1)
        return {"status": "SUCCEEDED", "output": [url]}

    def moved(self, task: Task) -> str:
        """Where the URL of a redirected output leads."""
        wanted = task.fault["location"] if task.fault and task.fault.kind == "redirect" else None
        return str(wanted or f"{self.public}/outputs/{task.id}.mp4?_jwt=local")

    def video(self, task: Task) -> Reply:
        """The file that a task ended in. It is made anew each time, the same."""
        asked = task.asked
        data = mp4(asked.width, asked.height, asked.rest["duration"], task.id)
        data = task.fault.spoil(data) if task.fault else data
        return Reply(data, content_type="video/mp4", outputs=[data])

    def complain(self, complaint: Complaint) -> Reply:
        """A 400 in the provider's shape."""
        if complaint.kind == "body":
            return self.trouble(400, complaint.message)
        codes = {
            "missing": "invalid_type",
            "unknown": "unrecognized_keys",
            "type": "invalid_type",
            "value": "custom",
        }
        issue = {
            "code": codes[complaint.kind],
            "path": complaint.path.split("."),
            "message": complaint.message,
        }
        return json_reply({"error": "Validation of body failed", "issues": [issue]}, 400)

    def turn_down(self, why: str, model: str) -> Reply:
        """Quota, key or model."""
        if why == "quota":
            return self.trouble(400, "You do not have enough credits to run this task.")
        if why == "key":
            return self.trouble(401, "The provided API key is not valid.")
        return self.complain(Complaint("value", "model", f"Invalid discriminator value: {model}."))

    def trouble(self, status: int, message: str) -> Reply:
        """Any other error in the provider's shape."""
        return json_reply({"error": message}, status)
