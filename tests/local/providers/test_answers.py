"""What the providers answer when all is well."""

import asyncio
import base64
import hashlib
import re
import struct
import time
from typing import Any

import httpx
import pytest

from scripts.local.providers.control import Control
from scripts.local.providers.faults import PROVIDERS
from tests.support.local_providers import GENERATE, IMAGE_MODEL, Providers, create, files, task_of
from tests.support.provider_answers import decode_boxes, decode_png, fits


def test_openai_makes_n_different_images_of_the_size(providers: Providers) -> None:
    answer = create(providers, "openai", n=10, size="1024x1024", quality="low", model="gpt-image-2")
    fits("openai", answer.json())
    images = [decode_png(data) for data in files(providers, "openai", answer)]
    assert [(width, height) for width, height, _ in images] == [(1024, 1024)] * 10
    assert len({colours for _, _, colours in images}) == 10
    usage = answer.json()["usage"]
    assert usage["output_tokens"] == 10 * 272
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_openai_edits_images_sent_as_a_form(providers: Providers, control: Control) -> None:
    (picture,) = files(providers, "openai", create(providers, "openai"))
    sent = [(name, ("a.png", picture, "image/png")) for name in ("image[]", "image[]", "mask")]
    form = {"prompt": "in snow", "n": "2", "size": "1024x1536", "input_fidelity": "high"}
    answer = providers.openai.post("/images/edits", data=form, files=sent)
    fits("openai", answer.raise_for_status().json())
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 2 * 323
    assert [decode_png(data)[:2] for data in files(providers, "openai", answer)] == [(1024, 1536)] * 2
    call = control.calls("openai")[-1]
    assert (call.path, call.model, call.n, call.prompt) == (
        "/openai/v1/images/edits",
        "gpt-image-2",
        2,
        "in snow",
    )


@pytest.mark.parametrize(
    ("ratio", "size"), [("1:1", (1024, 1024)), ("16:9", (1344, 768)), ("9:16", (768, 1344))]
)
def test_gemini_makes_an_image_in_either_spelling(
    providers: Providers, ratio: str, size: tuple[int, int]
) -> None:
    configs: tuple[Any, ...] = (
        {"generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": ratio}}},
        {"generation_config": {"response_modalities": ["IMAGE"], "image_config": {"aspect_ratio": ratio}}},
    )
    seen = set()
    for config in configs:
        answer = create(providers, "gemini", **config)
        fits("gemini", answer.json())
        assert len(answer.json()["candidates"][0]["content"]["parts"]) == 1
        width, height, colours = decode_png(files(providers, "gemini", answer)[0])
        assert (width, height) == size
        seen.add(colours)
    assert len(seen) == 2


def test_gemini_looks_at_images_and_answers_text(providers: Providers, control: Control) -> None:
    (picture,) = files(providers, "openai", create(providers, "openai"))
    inline = {"inline_data": {"mime_type": "image/png", "data": base64.b64encode(picture).decode()}}
    body = {"contents": [{"role": "user", "parts": [{"text": "What animal is this?"}, inline]}]}
    answer = providers.gemini.post("/v1beta/models/gemini-3.8-flash:generateContent", json=body)
    fits("gemini", answer.raise_for_status().json())
    (candidate,) = answer.json()["candidates"]
    assert "What animal is this?" in candidate["content"]["parts"][0]["text"]
    assert candidate["finishReason"] == "STOP"
    assert control.paid("gemini", match="What animal") == 1


def test_what_is_not_made_here_is_answered_by_aimock(providers: Providers, control: Control) -> None:
    chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}
    answer = providers.openai.post("/chat/completions", json=chat).raise_for_status().json()
    assert "Say hello." in answer["choices"][0]["message"]["content"]
    assert httpx.post(f"{providers.base}/openai/v1/chat/completions", json=chat).status_code == 401
    assert [call.kind for call in control.calls("openai", kind=None)] == ["other", "other"]
    assert control.paid("openai") == 0


@pytest.mark.parametrize("model", ["core", "ultra", "sd3"])
def test_stability_answers_bytes_or_json(providers: Providers, model: str) -> None:
    form = {"prompt": (None, "a fox"), "aspect_ratio": (None, "16:9"), "seed": (None, "7")}
    path = f"{GENERATE}/{model}"
    raw = providers.stability.post(path, files=form, headers={"Accept": "image/*"}).raise_for_status()
    assert (raw.headers["content-type"], raw.headers["finish-reason"], raw.headers["seed"]) == (
        "image/png",
        "SUCCESS",
        "7",
    )
    as_json = providers.stability.post(
        path, files=form, headers={"Accept": "application/json"}
    ).raise_for_status()
    fits("stability", as_json.json())
    assert as_json.json()["seed"] == 7
    first, second = decode_png(raw.content), decode_png(base64.b64decode(as_json.json()["image"]))
    assert first[:2] == second[:2] == ((1600, 896) if model == "core" else (1344, 768))
    assert first[2] != second[2]


def test_stability_takes_an_image_and_the_empty_file_of_its_examples(providers: Providers) -> None:
    (picture,) = files(providers, "stability", create(providers, "stability"))
    form = {"prompt": "a fox", "mode": "image-to-image", "strength": "0.6", "model": "sd3.5-large"}
    answer = providers.stability.post(
        f"{GENERATE}/sd3", data=form, files={"image": ("a.png", picture)}, headers={"Accept": "image/*"}
    )
    assert decode_png(answer.raise_for_status().content)[:2] == (1024, 1024)
    plain = providers.stability.post(f"{GENERATE}/core", data={"prompt": "a fox"}, files={"none": ""})
    assert plain.is_success


def test_runway_makes_a_video_in_the_end(providers: Providers, control: Control) -> None:
    answer = create(providers, "runway", ratio="720:1280", duration=4)
    fits("runway", answer.raise_for_status().json())
    seen = [task_of(providers, answer, polls=1) for _ in range(4)]
    for task in seen:
        fits("runway task", task)
    assert [task["status"] for task in seen] == ["PENDING", "RUNNING", "SUCCEEDED", "SUCCEEDED"]
    assert seen[2]["output"] == seen[3]["output"]
    video = httpx.get(seen[2]["output"][0], trust_env=False).raise_for_status()
    assert video.headers["content-type"] == "video/mp4"
    boxes = decode_boxes(video.content)
    assert [name for name in boxes if "/" not in name] == ["ftyp", "moov", "mdat"]
    scale, duration = struct.unpack(">II", boxes["moov/mvhd"][12:20])
    width, height = struct.unpack(">II", boxes["moov/trak/tkhd"][-8:])
    assert (duration / scale, width >> 16, height >> 16) == (4, 720, 1280)
    sizes = boxes["moov/trak/mdia/minf/stbl/stsz"]
    (count,) = struct.unpack(">I", sizes[8:12])
    lengths = struct.unpack(f">{count}I", sizes[12:])
    (offset,) = struct.unpack(">I", boxes["moov/trak/mdia/minf/stbl/stco"][8:12])
    assert sum(lengths) == len(boxes["mdat"])
    assert video.content[offset:] == boxes["mdat"]
    kinds = [call.kind for call in control.calls("runway", kind=None)]
    assert kinds == ["create", "poll", "poll", "poll", "poll", "fetch"]
    fetched = control.calls("runway", kind="fetch")[0]
    assert fetched.outputs == [hashlib.sha256(video.content).hexdigest()]


def test_runway_turns_an_image_into_a_video(providers: Providers) -> None:
    (picture,) = files(providers, "openai", create(providers, "openai"))
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    body = {"model": "gen4_turbo", "ratio": "1280:720", "promptImage": uri}
    for image in (uri, "https://example.com/a.png", [{"uri": uri, "position": "first"}]):
        answer = providers.runway.post("/v1/image_to_video", json={**body, "promptImage": image})
        (video,) = files(providers, "runway", answer)
        assert video[4:8] == b"ftyp"


def test_runway_videos_differ_and_tasks_end_when_cancelled(providers: Providers, control: Control) -> None:
    control.tasks(pending=0, running=0)
    one, other = (create(providers, "runway") for _ in range(2))
    assert files(providers, "runway", one) != files(providers, "runway", other)
    control.tasks(hold=True)
    held = create(providers, "runway")
    assert task_of(providers, held, polls=20)["status"] == "RUNNING"
    path = f"/v1/tasks/{held.json()['id']}"
    assert providers.runway.delete(path).status_code == 204
    assert [providers.runway.get(path).status_code, providers.runway.delete(path).status_code] == [404, 404]
    assert [call.status for call in control.calls("runway", kind="cancel")] == [204, 404]


def test_each_call_makes_other_files(providers: Providers, control: Control) -> None:
    for provider in PROVIDERS:
        first, second = (files(providers, provider, create(providers, provider)) for _ in range(2))
        assert first != second, provider


def test_a_hundred_at_once(providers: Providers, control: Control) -> None:
    control.fault("openai", "slow", times=None, ms=300)

    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=30) as client:
            asks = (
                client.post(
                    str(providers.openai.base_url) + "images/generations",
                    json={"prompt": f"fox {n}"}, headers={"Authorization": "Bearer sk-o"},
                )
                for n in range(100)
            )  # fmt: skip
            return await asyncio.gather(*asks)

    began = time.monotonic()
    answers = asyncio.run(all_at_once())
    assert time.monotonic() - began < 15  # one after the other they would take 30
    assert {answer.status_code for answer in answers} == {200}
    assert control.paid("openai") == 100
    assert len({re.sub(r"\D", "", call.prompt or "") for call in control.calls("openai")}) == 100
    assert len({call.outputs[0] for call in control.calls("openai")}) == 100


def test_the_log_tells_what_was_asked(providers: Providers, control: Control) -> None:
    began = time.time()
    answer = create(providers, "openai", "a red fox", n=2, model="gpt-image-2.6-flare")
    (call,) = control.calls()
    made = [hashlib.sha256(data).hexdigest() for data in files(providers, "openai", answer)]
    assert (call.provider, call.kind, call.method) == ("openai", "create", "POST")
    assert (call.model, call.n, call.prompt, call.accepted) == ("gpt-image-2.6-flare", 2, "a red fox", True)
    assert (call.status, call.fault, call.outputs) == (200, None, made)
    assert began - 1 < call.at < time.time() + 1
    create(providers, "gemini", "a blue fox")
    assert [found.provider for found in control.calls(after=call.seq)] == ["gemini"]
    assert [found.provider for found in control.calls(match="red")] == ["openai"]
    assert control.last() == call.seq + 1
    control.reset()
    assert control.calls(kind=None) == []


def test_the_image_model_is_named_in_the_path(providers: Providers) -> None:
    body = {"contents": [{"parts": [{"text": "a fox"}]}]}
    answer = providers.gemini.post(IMAGE_MODEL.replace("gemini-nano-banana-2.1", "gemini-9"), json=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
