"""Bad requests and wrong keys: refused in the provider's own shape, and never billed."""

import base64
from typing import Any

import httpx
import pytest

from scripts.local.providers.control import Control
from scripts.local.providers.faults import PROVIDERS
from scripts.local.providers.png import png
from tests.support.local_providers import GENERATE, IMAGE_MODEL, VIDEO, Providers, create
from tests.support.provider_answers import fits

JSON = dict[str, Any]
TEXT = [{"parts": [{"text": "a fox"}]}]
PICTURE = base64.b64encode(png(64, 64, "a")).decode()


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "prompt"),
        ({"prompt": None}, "invalid_type", "prompt"),
        ({"prompt": 7}, "invalid_type", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": "x" * 32_001}, "invalid_value", "prompt"),
        ({"prompt": "a fox", "foo": 1}, "unknown_parameter", "foo"),
        ({"prompt": "a fox", "response_format": "url"}, "unknown_parameter", "response_format"),
        ({"prompt": "a fox", "n": "2"}, "invalid_type", "n"),
        ({"prompt": "a fox", "n": 1.5}, "invalid_type", "n"),
        ({"prompt": "a fox", "n": 0}, "invalid_value", "n"),
        ({"prompt": "a fox", "n": 11}, "invalid_value", "n"),
        ({"prompt": "a fox", "size": "512x512"}, "invalid_value", "size"),
        ({"prompt": "a fox", "size": "99999x16", "model": "gpt-image-2"}, "invalid_value", "size"),
        ({"prompt": "a fox", "quality": "max", "model": "gpt-image-2"}, "invalid_value", "quality"),
        ({"prompt": "a fox", "complexity": "low", "model": "gpt-image-2"}, "unknown_parameter", "complexity"),
        ({"prompt": "a fox", "quality": "hd"}, "invalid_value", "quality"),
        ([], "invalid_type", None),
    ],
)
def test_openai_generations(
    providers: Providers, control: Control, body: Any, code: str, param: str | None
) -> None:
    answer = providers.openai.post("/images/generations", json=body)
    fits("openai error", answer.json())
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert control.paid() == 0 and control.calls("openai")[0].status == 400


@pytest.mark.parametrize(
    ("form", "sent", "param"),
    [
        ({"prompt": "a fox"}, {}, None),  # not multipart without a file
        ({}, {"image": png(64, 64, "a")}, "prompt"),
        ({"prompt": "a fox"}, {"mask": png(64, 64, "a")}, "image"),
        ({"prompt": "a fox"}, {"image": b""}, "image"),
        ({"prompt": "a fox"}, {"image": png(64, 64, "a")[:-1]}, "image"),
        ({"prompt": "a fox"}, {"image": b"<svg/>"}, "image"),
        ({"prompt": "a fox", "n": "two"}, {"image": png(64, 64, "a")}, "n"),
        ({"prompt": "a fox", "moderation": "low"}, {"image": png(64, 64, "a")}, "moderation"),
        ({"prompt": "a fox"}, {"image": png(64, 64, "a"), "foo": b"1"}, "foo"),
    ],
)
def test_openai_edits(
    providers: Providers, control: Control, form: JSON, sent: dict[str, bytes], param: str | None
) -> None:
    answer = providers.openai.post(
        "/images/edits", data=form, files={name: (f"{name}.png", data) for name, data in sent.items()}
    )
    fits("openai error", answer.json())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert control.paid() == 0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "contents is not specified"),
        ({"contents": []}, "contents"),
        ({"contents": "a fox"}, "contents"),
        ({"contents": TEXT, "foo": 1}, 'Unknown name "foo"'),
        ({"contents": [{"parts": [{"txt": "a fox"}]}]}, 'Unknown name "txt"'),
        ({"contents": [{"parts": [{"text": 1}]}]}, "contents.0.parts.0.text"),
        ({"contents": [{"role": "robot", "parts": [{"text": "a"}]}]}, "role"),
        ({"contents": TEXT, "generationConfig": {"n": 2}}, 'Unknown name "n"'),
        ({"contents": TEXT, "generationConfig": {"candidateCount": 2}}, "candidates"),
        ({"contents": TEXT, "generationConfig": {"imageConfig": {"aspectRatio": "7:1"}}}, "aspectRatio"),
        ({"contents": TEXT, "generationConfig": {"imageConfig": {"imageSize": "512"}}}, "imageSize"),
        ({"contents": TEXT, "generationConfig": {"responseModalities": ["TEXT"]}}, "responseModalities"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "!"}}]}]}, "Base64"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/jpeg", "data": PICTURE}}]}]}, "image"),
    ],
)
def test_gemini(providers: Providers, control: Control, body: Any, says: str) -> None:
    answer = providers.gemini.post(IMAGE_MODEL, json=body)
    fits("gemini error", answer.json())
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert says in error["message"]
    assert control.paid() == 0


@pytest.mark.parametrize(
    ("model", "form", "says"),
    [
        ("core", {}, "prompt: required"),
        ("core", {"prompt": ""}, "prompt"),
        ("core", {"prompt": "x" * 10_001}, "prompt"),
        ("core", {"prompt": "a fox", "foo": "1"}, "foo: unknown"),
        ("core", {"prompt": "a fox", "seed": "one"}, "seed"),
        ("core", {"prompt": "a fox", "seed": "4294967295"}, "seed"),
        ("core", {"prompt": "a fox", "aspect_ratio": "3:1"}, "aspect_ratio"),
        ("core", {"prompt": "a fox", "style_preset": "mine"}, "style_preset"),
        ("core", {"prompt": "a fox", "model": "sd3.5-large"}, "model: unknown"),
        ("sd3", {"prompt": "a fox", "model": "sd1"}, "model"),
        ("sd3", {"prompt": "a fox", "mode": "image-to-image", "strength": "0.5"}, "image: required"),
        ("ultra", {"prompt": "a fox", "strength": "2"}, "strength"),
    ],
)
def test_stability(providers: Providers, control: Control, model: str, form: JSON, says: str) -> None:
    parts = {name: (None, value) for name, value in form.items()} or {"none": (None, "")}
    answer = providers.stability.post(f"{GENERATE}/{model}", files=parts)
    fits("stability error", answer.json())
    assert (answer.status_code, answer.json()["name"]) == (400, "bad_request")
    assert says in answer.json()["errors"][0]
    assert control.paid() == 0


def test_stability_wants_a_multipart_form_and_a_known_accept(providers: Providers) -> None:
    path = f"{GENERATE}/core"
    assert providers.stability.post(path, data={"prompt": "a fox"}).status_code == 400
    assert providers.stability.post(path, json={"prompt": "a fox"}).status_code == 400
    parts = {"prompt": (None, "a fox")}
    assert providers.stability.post(path, files=parts, headers={"Accept": "image/png"}).status_code == 400
    assert providers.stability.post(f"{GENERATE}/xl", files=parts).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("text", {}, "model"),
        ("text", {**VIDEO, "promptText": "a fox", "model": "gen4_turbo"}, "model"),  # only from an image
        ("text", VIDEO, "promptText"),
        ("text", {**VIDEO, "promptText": ""}, "promptText"),
        ("text", {**VIDEO, "promptText": "x" * 1001}, "promptText"),
        ("text", {**VIDEO, "promptText": "a fox", "foo": 1}, "foo"),
        ("text", {**VIDEO, "promptText": "a fox", "duration": 11}, "duration"),
        ("text", {**VIDEO, "promptText": "a fox", "duration": "5"}, "duration"),
        ("text", {**VIDEO, "promptText": "a fox", "ratio": "16:9"}, "ratio"),
        ("text", {**VIDEO, "promptText": "a fox", "model": "veo3.1", "duration": 5}, "duration"),
        ("image", {"model": "gen4_turbo", "ratio": "1280:720"}, "promptImage"),
        (
            "image",
            {"model": "gen4_turbo", "ratio": "1280:720", "promptImage": "http://a.example/b"},
            "promptImage",
        ),
        (
            "image",
            {"model": "gen4_turbo", "ratio": "1280:720", "promptImage": "https://10.0.0.1/b"},
            "promptImage",
        ),
        (
            "image",
            {"model": "gen4_turbo", "ratio": "1280:720", "promptImage": "data:image/png;base64,!"},
            "promptImage",
        ),
        (
            "image",
            {"model": "gen4_turbo", "ratio": "1280:720", "promptImage": f"data:image/jpeg;base64,{PICTURE}"},
            "promptImage",
        ),
    ],
)
def test_runway(providers: Providers, control: Control, path: str, body: JSON, field: str) -> None:
    answer = providers.runway.post(f"/v1/{path}_to_video", json=body)
    fits("runway error", answer.json())
    assert answer.status_code == 400
    assert answer.json()["issues"][0]["path"][0] == field
    assert control.paid() == 0


def test_runway_wants_its_version(providers: Providers) -> None:
    for version in ({}, {"X-Runway-Version": "2023-01-01"}):
        headers = {"Authorization": "Bearer key_r", **version}
        answer = httpx.post(f"{providers.base}/runway/v1/text_to_video", json={}, headers=headers)
        assert answer.status_code == 400 and "X-Runway-Version" in answer.json()["error"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("given", ["wrong", ""])
def test_wrong_keys(providers: Providers, control: Control, provider: str, given: str) -> None:
    client = providers.of(provider)
    name = "x-goog-api-key" if provider == "gemini" else "Authorization"
    right = client.headers[name]
    try:
        client.headers[name] = given and (given if provider == "gemini" else f"Bearer {given}")
        answer = create(providers, provider)
    finally:
        client.headers[name] = right
    fits(f"{provider} error", answer.json())
    # Google answers 400 with a reason for a key that is none, and 403 without one.
    expected = (400 if given else 403) if provider == "gemini" else 401
    assert answer.status_code == expected
    if provider == "gemini" and given:
        assert answer.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert [(call.accepted, call.status) for call in control.calls()] == [(False, expected)]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_bodies_that_are_none(providers: Providers, control: Control, provider: str) -> None:
    paths = {
        "openai": "/images/generations", "gemini": IMAGE_MODEL, "stability": f"{GENERATE}/core",
        "runway": "/v1/text_to_video",
    }  # fmt: skip
    for content, kind in (
        (b"{", "application/json"),
        (b"\xff\xfe\x00", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{}", "text/plain"),
        (b"", ""),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"anything", "multipart/form-data"),
    ):
        answer = providers.of(provider).post(paths[provider], content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400, (content[:10], kind, answer.text)
        fits(f"{provider} error", answer.json())
    assert control.paid() == 0


def test_bodies_that_are_too_large(providers: Providers) -> None:
    answer = providers.openai.post("/images/generations", json={"prompt": "x" * (65 * 1024 * 1024)})
    assert answer.status_code == 413
    fits("openai error", answer.json())


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-1"])
def test_openai_has_no_retired_models(providers: Providers, control: Control, model: str) -> None:
    answer = create(providers, "openai", model=model)
    fits("openai error", answer.json())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert control.paid() == 0


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-2.5-pro", "gemini-3.1-flash-image"])
def test_gemini_has_no_retired_models(providers: Providers, control: Control, model: str) -> None:
    answer = providers.gemini.post(f"/v1beta/models/{model}:generateContent", json={"contents": TEXT})
    fits("gemini error", answer.json())
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
    assert control.paid() == 0


@pytest.mark.parametrize(
    ("provider", "why", "status"),
    [("openai", "quota", 429), ("openai", "key", 401), ("openai", "model", 404), ("gemini", "quota", 429),
     ("gemini", "key", 400), ("gemini", "model", 404), ("stability", "quota", 402), ("stability", "key", 401),
     ("stability", "model", 404), ("runway", "quota", 400), ("runway", "key", 401), ("runway", "model", 400)],
)  # fmt: skip
def test_turned_down(providers: Providers, control: Control, provider: str, why: str, status: int) -> None:
    control.fault(provider, "turned_down", why=why)
    answer = create(providers, provider)
    fits(f"{provider} error", answer.json())
    assert answer.status_code == status
    assert control.paid() == 0
    create(providers, provider).raise_for_status()
