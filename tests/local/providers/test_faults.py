"""Faults on demand: what a client sees, and what the provider would bill."""

import base64
import socket
import struct
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from scripts.local.providers.control import Control
from scripts.local.providers.faults import PROVIDERS, FaultError
from tests.support.local_providers import Providers, create, files, task_of
from tests.support.provider_answers import decode_png, fits, png_in

ALL = pytest.mark.parametrize("provider", PROVIDERS)
IMAGES = pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "runway"])


def accepted(control: Control) -> list[bool]:
    """Of each create call, whether it was accepted."""
    return [call.accepted for call in control.calls()]


@ALL
def test_rate_limit(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "rate_limit", times=2, retry_after=3)
    for _ in range(2):
        answer = create(providers, provider)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
        fits(f"{provider} error", answer.json())
    assert create(providers, provider).is_success
    assert accepted(control) == [False, False, True]
    assert [call.fault for call in control.calls()] == ["rate_limit", "rate_limit", None]


@ALL
@pytest.mark.parametrize("late", [False, True])
def test_server_errors_before_and_after_acceptance(
    providers: Providers, control: Control, provider: str, late: bool
) -> None:
    control.fault(provider, "error", status=503, accepted=late)
    answer = create(providers, provider)
    assert answer.status_code == 503
    fits(f"{provider} error", answer.json())
    assert accepted(control) == [late]
    assert control.paid(provider) == int(late)


@ALL
def test_drop_before_acceptance_reads_no_body(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "drop")
    with pytest.raises(httpx.TransportError):
        create(providers, provider)
    (call,) = control.calls()
    assert (call.accepted, call.status, call.prompt) == (False, None, None)
    assert create(providers, provider).is_success


@ALL
def test_drop_after_acceptance_is_billed(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "drop", accepted=True)
    with pytest.raises(httpx.TransportError):
        create(providers, provider)
    (call,) = control.calls()
    assert (call.accepted, call.status, call.prompt) == (True, None, "a fox")
    assert control.paid(provider) == 1


def give_up(providers: Providers, provider: str) -> None:
    """Ask for an output that is slow in coming, and do not wait for it."""
    client = providers.of(provider)
    usual, client.timeout = client.timeout, httpx.Timeout(0.3)
    try:
        with pytest.raises(httpx.ReadTimeout):
            create(providers, provider)
    finally:
        client.timeout = usual


@ALL
def test_a_slow_call_is_billed_when_the_client_gives_up(
    providers: Providers, control: Control, provider: str
) -> None:
    control.fault(provider, "slow", ms=10_000)
    give_up(providers, provider)
    assert control.paid(provider) == 1
    assert create(providers, provider).is_success
    assert control.calls()[0].status is None  # still under way: the next one was not slow


def test_slow_adds_to_another_fault(providers: Providers, control: Control) -> None:
    control.fault("openai", "slow", times=None, ms=800)
    control.fault("openai", "error", accepted=True)
    began = time.monotonic()
    assert create(providers, "openai").status_code == 500
    assert time.monotonic() - began > 0.8
    assert create(providers, "openai").is_success
    control.fault("openai", "slow", times=None, ms=10_000)
    give_up(providers, "openai")
    control.clear("openai")
    assert create(providers, "openai").is_success
    assert control.calls()[-2].status is None  # still under way: the next one was not slow


@ALL
def test_an_empty_body(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "empty", bare=True)
    answer = create(providers, provider)
    assert (answer.status_code, answer.content) == (200, b"")
    assert control.paid(provider) == 1


def test_no_output(providers: Providers, control: Control) -> None:
    for provider in PROVIDERS:
        control.fault(provider, "empty")
    answer = create(providers, "openai", n=3).raise_for_status().json()
    fits("openai", answer)
    assert answer["data"] == []
    answer = create(providers, "gemini").raise_for_status().json()
    fits("gemini", answer)
    assert "parts" not in answer["candidates"][0]["content"]
    assert create(providers, "stability").raise_for_status().content == b""
    task = task_of(providers, create(providers, "runway").raise_for_status())
    assert (task["status"], task["output"]) == ("SUCCEEDED", [])
    assert accepted(control) == [True] * 4


@ALL
def test_a_page_for_an_answer(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "wrong_type")
    answer = create(providers, provider)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")
    assert b"<html>" in answer.content
    assert control.paid(provider) == 1


@ALL
def test_files_cut_short_and_files_that_are_none(
    providers: Providers, control: Control, provider: str
) -> None:
    begins = b"\x89PNG" if provider != "runway" else b"\0\0\0 ftyp"
    control.fault(provider, "wrong_type", what="truncated")
    (cut,) = files(providers, provider, create(providers, provider))
    assert cut.startswith(begins)
    if provider != "runway":
        with pytest.raises((AssertionError, struct.error)):
            decode_png(cut)
    control.fault(provider, "wrong_type", what="not_media")
    (page,) = files(providers, provider, create(providers, provider))
    assert page.startswith(b"<!doctype html>")
    (good,) = files(providers, provider, create(providers, provider))
    assert len(good) > 1.9 * len(cut)


@ALL
def test_files_too_large(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "oversize", mb=12)
    (large,) = files(providers, provider, create(providers, provider))
    assert len(large) > 12 * 1024 * 1024


@IMAGES
def test_a_small_file_that_says_it_is_huge(providers: Providers, control: Control, provider: str) -> None:
    control.fault(provider, "oversize", what="pixels")
    (bomb,) = files(providers, provider, create(providers, provider))
    assert len(bomb) < 1000
    assert (int.from_bytes(bomb[16:20], "big"), int.from_bytes(bomb[20:24], "big")) == (50_000, 50_000)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("moderation_blocked", "image_generation_user_error"),
        ("content_policy_violation", "invalid_request_error"),
    ],
)
def test_openai_refuses(providers: Providers, control: Control, code: str, kind: str) -> None:
    control.fault("openai", "refusal", code=code)
    control.fault("openai", "refusal", stage="output", code=code)
    for _ in range(2):
        answer = create(providers, "openai")
        fits("openai error", answer.json())
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (400, code, kind)
    assert accepted(control) == [False, True]  # what was made before it was looked at is billed


def test_gemini_refuses(providers: Providers, control: Control) -> None:
    control.fault("gemini", "refusal")
    control.fault("gemini", "refusal", stage="output")
    control.fault("gemini", "refusal", stage="output", code="IMAGE_PROHIBITED_CONTENT")
    blocked, *stopped = (create(providers, "gemini").raise_for_status().json() for _ in range(3))
    for answer in (blocked, *stopped):
        fits("gemini", answer)
    assert blocked["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT" and "candidates" not in blocked
    reasons = [answer["candidates"][0]["finishReason"] for answer in stopped]
    assert reasons == ["IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"]
    assert accepted(control) == [False, True, True]


def test_stability_refuses(providers: Providers, control: Control) -> None:
    control.fault("stability", "refusal")
    flagged = create(providers, "stability")
    fits("stability error", flagged.json())
    assert (flagged.status_code, flagged.json()["name"]) == (403, "content_moderation")
    control.fault("stability", "refusal", times=2, stage="output")
    filtered = create(providers, "stability")
    assert (filtered.status_code, filtered.headers["finish-reason"]) == (200, "CONTENT_FILTERED")
    decode_png(filtered.content)
    form: Any = {"prompt": (None, "a fox")}
    as_json = providers.stability.post(
        "/v2beta/stable-image/generate/core", files=form, headers={"Accept": "application/json"}
    ).json()
    fits("stability", as_json)
    assert as_json["finish_reason"] == "CONTENT_FILTERED" and base64.b64decode(as_json["image"])
    assert accepted(control) == [False, True, True]


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("refusal", {}, "SAFETY.INPUT.TEXT"),
        ("refusal", {"stage": "output"}, "SAFETY.OUTPUT.VIDEO"),
        ("refusal", {"code": "SAFETY.INPUT.IMAGE"}, "SAFETY.INPUT.IMAGE"),
        ("task_failed", {}, "INTERNAL.BAD_OUTPUT.CODE01"),
    ],
)
def test_runway_tasks_fail(
    providers: Providers, control: Control, kind: str, options: dict[str, Any], code: str
) -> None:
    control.fault("runway", kind, **options)
    task = task_of(providers, create(providers, "runway"))
    fits("runway task", task)
    assert (task["status"], task["failureCode"]) == ("FAILED", code)
    assert "output" not in task
    assert control.paid("runway") == 1  # the task was there


def test_openai_gives_k_of_n(providers: Providers, control: Control) -> None:
    control.fault("openai", "partial", k=2)
    assert len(files(providers, "openai", create(providers, "openai", n=4))) == 2
    assert len(files(providers, "openai", create(providers, "openai", n=4))) == 4
    assert [(call.n, len(call.outputs)) for call in control.calls()] == [(4, 2), (4, 4)]


def test_an_output_that_redirects(providers: Providers, control: Control) -> None:
    control.fault("runway", "redirect")
    control.fault("runway", "redirect", location="http://169.254.169.254/latest/meta-data")
    to_file, away = (task_of(providers, create(providers, "runway"))["output"][0] for _ in range(2))
    moved = httpx.get(to_file, trust_env=False)
    assert moved.status_code == 302
    followed = httpx.get(to_file, follow_redirects=True, trust_env=False)
    assert followed.headers["content-type"] == "video/mp4"
    gone = httpx.get(away, trust_env=False)
    assert (gone.status_code, gone.headers["location"]) == (302, "http://169.254.169.254/latest/meta-data")


def test_an_output_on_another_host(providers: Providers, control: Control) -> None:
    control.fault("runway", "other_host")
    control.fault("runway", "other_host", url="http://[::ffff:127.0.0.1]:1/a.mp4")
    here, there = (task_of(providers, create(providers, "runway"))["output"][0] for _ in range(2))
    assert urlsplit(here).hostname == "localhost"
    assert httpx.get(here, trust_env=False).headers["content-type"] == "video/mp4"  # it would be there
    assert there == "http://[::ffff:127.0.0.1]:1/a.mp4"
    assert [call.kind for call in control.calls(kind="fetch")] == ["fetch"]


def test_faults_of_polling_and_fetching(providers: Providers, control: Control) -> None:
    answer = create(providers, "runway")
    path = f"/v1/tasks/{answer.json()['id']}"
    control.fault("runway", "rate_limit", on="poll", retry_after=2)
    control.fault("runway", "error", on="poll", status=502)
    control.fault("runway", "drop", on="poll")
    control.fault("runway", "error", on="cancel")
    limited = providers.runway.get(path)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    assert providers.runway.get(path).status_code == 502
    with pytest.raises(httpx.TransportError):
        providers.runway.get(path)
    assert providers.runway.delete(path).status_code == 500
    task = task_of(providers, answer)  # none of these moved it on
    assert task["status"] == "SUCCEEDED"
    control.fault("runway", "error", on="fetch", status=503)
    assert httpx.get(task["output"][0], trust_env=False).status_code == 503
    assert httpx.get(task["output"][0], trust_env=False).is_success


@ALL
def test_faults_for_certain_prompts_leave_others_alone(
    providers: Providers, control: Control, provider: str
) -> None:
    control.fault(provider, "error", match="badger")
    control.fault(provider, "rate_limit", match="badger")
    assert create(providers, provider, "a fox").is_success
    assert create(providers, provider, "a badger").status_code == 500
    assert create(providers, provider, "a badger").status_code == 429
    assert create(providers, provider, "a badger").is_success
    assert control.paid(provider, match="badger") == 1


def test_faults_come_in_the_order_in_which_they_were_asked_for(
    providers: Providers, control: Control
) -> None:
    for status in (500, 502, 503):
        control.fault("gemini", "error", status=status)
    assert [create(providers, "gemini").status_code for _ in range(4)] == [500, 502, 503, 200]
    assert create(providers, "stability").is_success  # not its faults


def test_refused_requests_leave_faults_waiting(providers: Providers, control: Control) -> None:
    control.fault("openai", "partial", k=1)
    assert create(providers, "openai", n=99).status_code == 400
    assert len(files(providers, "openai", create(providers, "openai", n=2))) == 1


def test_the_port_refuses_for_a_while(providers: Providers, control: Control) -> None:
    create(providers, "openai")  # leaves a connection open
    began = time.monotonic()
    control.refuse(1)
    with pytest.raises(httpx.TransportError):
        create(providers, "openai")
    with pytest.raises(httpx.ConnectError):
        create(providers, "openai")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", urlsplit(providers.base).port or 0)) != 0
    while time.monotonic() - began < 15:
        try:
            if create(providers, "openai").is_success:
                break
        except httpx.TransportError:
            time.sleep(0.05)
    assert time.monotonic() - began > 1
    assert control.paid("openai") == 2  # it remembers


@pytest.mark.parametrize(
    ("provider", "kind", "options", "says"),
    [
        ("mine", "error", {}, "provider is 'mine'"),
        ("openai", "flood", {}, "kind is 'flood'"),
        ("openai", "error", {"status": 404}, "from 500 to 599"),
        ("openai", "error", {"code": 1}, "no option code"),
        ("openai", "error", {"times": 0}, "times must be"),
        ("openai", "error", {"on": "poll"}, "only runway has"),
        ("runway", "partial", {}, "runway has no partial"),
        ("runway", "empty", {"on": "poll"}, "on create only"),
        ("runway", "oversize", {"what": "pixels"}, "makes videos"),
        ("gemini", "redirect", {}, "gemini has no redirect"),
        ("gemini", "wrong_type", {"what": "gif"}, "what must be"),
        ("gemini", "refusal", {"stage": "later"}, "stage must be"),
    ],
)
def test_faults_that_cannot_be(
    control: Control, provider: str, kind: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(FaultError, match=says):
        control.fault(provider, kind, **options)


def test_text_answers_have_faults_too(providers: Providers, control: Control) -> None:
    def ask() -> httpx.Response:
        body = {"contents": [{"parts": [{"text": "What is this?"}]}]}
        return providers.gemini.post("/v1beta/models/gemini-3.8-flash:generateContent", json=body)

    control.fault("gemini", "refusal", stage="output")
    assert ask().json()["candidates"][0]["finishReason"] == "SAFETY"
    control.fault("gemini", "wrong_type", what="truncated")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        ask().json()
    control.fault("gemini", "oversize", mb=3)
    assert len(ask().content) > 3 * 1024 * 1024
    assert ask().json()["candidates"][0]["finishReason"] == "STOP"
    with pytest.raises(ValueError, match="unpack"):
        png_in(ask().json())
