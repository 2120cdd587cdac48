"""Video: work that a provider does for minutes, and that is asked about."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from scripts.local.providers.control import Control
from tests.support.generate import HTTP, GenerateUser, ended, started
from tests.support.served import Served


def test_a_video_comes_by_itself(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    job = started(ann, served, prompt)
    ann.expect(0, held=50)
    again = ann.post(served, prompt, key="k", operation="gen_video")
    assert (again.status_code, again.json()["job"]) == (202, job)
    assert ended(ann, job) == "succeeded"
    answer = ann.get(served, job)
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    assert (output["mime_type"], output["width"]) == ("video/mp4", None)
    assert HTTP.get(output["url"]).content[4:8] == b"ftyp"
    assert ann.post(served, prompt, key="k", operation="gen_video").json()["job"] == job
    assert control.paid(match=prompt) == 1
    ann.expect(50)
    assert ann.usage() == ["succeeded"]


def test_a_picture_comes_to_life(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    job = started(ann, served, prompt, operation="gen_animate", inputs=[ann.upload("still.png")])
    assert ended(ann, job) == "succeeded"
    assert control.calls(match=prompt)[0].path.endswith("/v1/image_to_video")
    bare = ann.post(served, prompt, operation="gen_animate")
    assert (bare.status_code, bare.json()["charged"]) == (400, 0)
    two = ann.post(served, prompt, operation="gen_video", n=2)
    assert (two.status_code, two.json()["charged"]) == (400, 0)
    ann.expect(50)


NO_USE: list[tuple[str, dict[str, Any], str, int]] = [
    ("task_failed", {}, "failed", 502),
    ("refusal", {"stage": "output"}, "refused", 422),
    ("refusal", {"stage": "input"}, "refused", 422),
    ("empty", {}, "failed", 502),
    ("wrong_type", {"what": "not_media"}, "failed", 502),
    ("wrong_type", {"what": "truncated"}, "failed", 502),
    ("redirect", {}, "failed", 502),
    ("redirect", {"location": "http://169.254.169.254/latest/meta-data/"}, "failed", 502),
    ("other_host", {}, "failed", 502),
    ("other_host", {"url": "http://169.254.169.254/latest/meta-data/"}, "failed", 502),
    ("other_host", {"url": "http://2130706433/"}, "failed", 502),
    ("other_host", {"url": "http://[::ffff:127.0.0.1]/"}, "failed", 502),
    ("other_host", {"url": "file:///etc/passwd"}, "failed", 502),
    ("other_host", {"url": "https://example.com/video.mp4"}, "failed", 502),
]


@pytest.mark.parametrize("part", [slice(7), slice(7, None)])
def test_a_task_without_a_usable_end(
    ann: GenerateUser, served: Served, prompt: str, control: Control, part: slice
) -> None:
    control.tasks(pending=0, running=0)
    answers = []
    for kind, options, _, _ in NO_USE[part]:
        mark = f"{prompt} {kind} {options}"
        control.fault("runway", kind, match=mark, **options)
        answers.append(ann.post(served, mark, operation="gen_video"))
    for answer, (kind, options, status, code) in zip(answers, NO_USE[part], strict=True):
        job = answer.json()["job"]
        assert ended(ann, job) == status, (kind, options)
        final = ann.get(served, job) if answer.status_code == 202 else answer
        assert (final.status_code, final.json()["charged"]) == (code, 0)
    ann.expect(0)


def test_polls_and_fetches_may_fail(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    for kind, on in (("error", "poll"), ("rate_limit", "poll"), ("drop", "poll"), ("error", "fetch")):
        control.fault("runway", kind, on=on, match=prompt)
    job = started(ann, served, prompt)
    assert ended(ann, job) == "succeeded"
    ann.expect(50)


def test_heartbeats_outlast_the_deadline(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    control.tasks(hold=True)
    job = started(ann, served, prompt, operation="gen_brief_video")
    time.sleep(6.5)  # the deadline was 5
    assert ann.row(job)["status"] == "running"
    ann.expect(0, held=50)
    control.tasks(hold=False)
    assert ended(ann, job) == "succeeded"
    ann.expect(50)


def test_cancel(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    control.tasks(hold=True)
    job = started(ann, served, prompt)
    answer = ann.delete(served, job)
    assert (answer.status_code, answer.json()) == (200, {"job": job, "status": "canceled", "charged": 0})
    assert len(control.calls("runway", "cancel")) == 1
    assert (ann.get(served, job).status_code, ann.get(served, job).json()["code"]) == (409, "canceled")
    assert ann.delete(served, job).status_code == 200
    ann.expect(0)
    assert ann.usage() == ["failed"]


def test_what_is_over_or_out_of_reach_is_not_canceled(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    done = ann.post(served, prompt).json()["job"]
    late = ann.delete(served, done)
    assert (late.status_code, late.json()["code"], late.json()["charged"]) == (409, "too_late", 10)
    control.fault("openai", "drop", match=prompt + "!")
    lost = ann.post(served, prompt + "!").json()["job"]
    answer = ann.delete(served, lost)
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (409, "too_late", 0)
    ann.sweep()
    ann.expect(10)


def test_a_provider_that_fails_to_cancel(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    control.tasks(hold=True)
    job = started(ann, served, prompt)
    control.fault("runway", "error", times=None, on="cancel", match=prompt)
    assert ann.delete(served, job).json()["code"] == "too_late"
    ann.expect(0, held=50)
    control.clear("runway")
    # The wish stays, and the next heartbeat carries it out, or the next DELETE.
    assert ann.delete(served, job).status_code == 200
    ann.expect(0)


def test_others_see_nothing(
    ann: GenerateUser, caller: Callable[..., GenerateUser], served: Served, prompt: str, control: Control
) -> None:
    bob = caller()
    control.tasks(hold=True)
    video = started(ann, served, prompt)
    image = ann.post(served, prompt).json()["job"]
    for job in (video, image, "00000000-0000-0000-0000-000000000000"):
        for answer in (bob.get(served, job), bob.delete(served, job)):
            assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (404, "PT404", 0)
    assert ann.row(video)["cancel_requested_at"] is None
    # Not the file either, by no path and as no input.
    path = ann.row(image)["outputs"][0]["path"]
    storage = bob.user.client.storage.from_("generations")
    with pytest.raises(Exception, match=r"(?i)not.?found|denied|unauthorized|404|400"):
        storage.download(path)
    with pytest.raises(Exception, match=r"(?i)not.?found|denied|unauthorized|404|400"):
        storage.create_signed_url(path, 60)
    theft = bob.post(served, prompt, operation="gen_edit", inputs=[path])
    assert (theft.status_code, theft.json()["charged"]) == (404, 0)
    assert ann.user.client.storage.from_("generations").download(path).startswith(b"\x89PNG")
    bob.expect(0)
    assert ann.delete(served, video).status_code == 200
