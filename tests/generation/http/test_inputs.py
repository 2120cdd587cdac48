"""What clients may send, and what is refused before a credit is held."""

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from _shared.generation import media
from scripts.local.providers.control import Control
from scripts.local.providers.mp4 import mp4
from scripts.local.providers.png import bomb, png
from tests.support.generate import HTTP, PNG, GenerateUser
from tests.support.served import Served


def refused(ann: GenerateUser, answer: httpx.Response, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["charged"] == 0 and body["code"]
    ann.expect(0)
    return str(body["message"])


MALFORMED: list[dict[str, Any]] = [
    {"prompt": ""}, {"prompt": "  "}, {"prompt": 7}, {"prompt": None}, {"prompt": "x" * 10_001},
    {"prompt": "nul \0"}, {"operation": ""}, {"operation": 7}, {"operation": "x" * 64},
    {"n": 0}, {"n": 11}, {"n": -1}, {"n": 1.5}, {"n": True}, {"n": "1"}, {"n": None},
    {"options": []}, {"options": {"size": {"a": 1}}}, {"options": {"size": 1.5}},
    {"options": {"size": "x" * 101}}, {"options": {str(n): 1 for n in range(11)}},
    {"inputs": "x"}, {"inputs": ["https://example.com/cat.png"]}, {"inputs": ["http://127.0.0.1/"]},
    {"inputs": ["../secret"]}, {"inputs": ["{account}/../x.png"]}, {"inputs": ["{account}//x.png"]},
    {"inputs": ["{account}/inputs/.hidden"]}, {"inputs": ["{account}/inputs/%2e%2e"]},
    {"inputs": ["{account}"]}, {"inputs": [7]}, {"inputs": ["{account}/inputs/a.png"] * 5},
    {"dry_run": 1}, {"url": "https://example.com"}, {"model": "gpt-image-1"}, {"provider": "openai"},
]  # fmt: skip


def test_malformed(ann: GenerateUser, served: Served, prompt: str) -> None:
    for change in MALFORMED:
        inputs = change.get("inputs")
        if isinstance(inputs, list):
            named = [path.replace("{account}", ann.account) if path != 7 else 7 for path in inputs]
            change = {"inputs": named}
        refused(ann, ann.post(served, **{"prompt": prompt, **change}))
    assert ann.all_jobs() == []


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("gen_image", {"size": "1x1"}), ("gen_image", {"quality": 1}), ("gen_image", {"model": "gpt-4"}),
    ("gen_image", {"aspect_ratio": "1:1"}), ("gen_stable", {"size": "1024x1024"}),
    ("gen_stable", {"seed": -1}), ("gen_stable", {"seed": 2**32}),
    ("gen_gemini", {"aspect_ratio": "7:1"}),
    ("gen_vision", {"aspect_ratio": "1:1"}), ("gen_video", {"duration": 60}),
]  # fmt: skip


def test_options_are_the_providers(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    for operation, options in OPTIONS:
        message = refused(ann, ann.post(served, prompt, operation=operation, options=options))
        assert operation in message
    assert control.calls(match=prompt) == []


def test_options_reach_the_provider(ann: GenerateUser, served: Served, prompt: str) -> None:
    answer = ann.post(served, prompt, options={"size": "1536x1024", "quality": "low"})
    output = answer.json()["outputs"][0]
    assert (output["width"], output["height"]) == (1536, 1024)
    wide = ann.post(served, prompt, operation="gen_stable", options={"aspect_ratio": "16:9", "seed": 7})
    output = wide.json()["outputs"][0]
    assert output["width"] > output["height"]


WRONG_FILES = [
    ("text", b"hello"),
    ("empty", b""),
    ("html", b"<html><script>alert(1)</script></html>"),
    ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ("bomb", bomb()),
    ("cut", PNG[:-10]),
    ("gif", b"GIF89a" + struct.pack("<HH", 2, 2) + b"\0\0\0;"),
    ("zip", b"PK\x03\x04" + bytes(100)),
    ("gzip", zlib.compress(bytes(10_000_000))),
]


def test_wrong_files_are_refused(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    for name, data in WRONG_FILES:
        jobs = len(ann.all_jobs())
        fields = {"request": json.dumps({"operation": "gen_edit", "prompt": prompt})}
        answer = HTTP.post(served.url, data=fields, files={"image": ("x.png", data)}, headers=ann.headers())
        refused(ann, answer)
        assert len(ann.all_jobs()) == jobs
        if data:
            path = ann.upload(f"{name}.png", data)
            refused(ann, ann.post(served, prompt, operation="gen_edit", inputs=[path]))
    assert control.calls(match=prompt) == []


def test_an_input_that_is_not_there(ann: GenerateUser, served: Served, prompt: str) -> None:
    refused(ann, ann.post(served, prompt, operation="gen_edit", inputs=[f"{ann.account}/inputs/no.png"]), 404)
    stranger = "00000000-0000-4000-8000-000000000000/inputs/cat.png"
    refused(ann, ann.post(served, prompt, operation="gen_edit", inputs=[stranger]), 404)


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=b", "application/json"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_hundred_megabytes_are_not_read(
    ann: GenerateUser, served: Served, kind: str, declared: bool
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x.png"\r\n\r\n' + PNG
    size, sent = 100 * 1024 * 1024, 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield head
        while sent < size:
            sent += 65536
            yield bytes(65536)

    headers = {**ann.headers(), "Content-Type": kind}
    if declared:
        headers["Content-Length"] = str(size + len(head))
    try:
        answer = HTTP.post(served.url, content=body(), headers=headers)
    except httpx.TransportError:
        pass  # the connection was closed on us while we were still sending
    else:
        refused(ann, answer, 413)
    assert sent < size * 0.9
    ann.expect(0)
    assert ann.all_jobs() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"--b--\r\n", b"--b\r\nContent-Disposition: form-data; name=request\r\n\r\n[]\r\n--b--\r\n",
     b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n{}\r\n--b--\r\n',
     b"--b\r\nno header\r\n\r\n"],
)  # fmt: skip
def test_broken_multipart(ann: GenerateUser, served: Served, content: bytes) -> None:
    headers = {**ann.headers(), "Content-Type": "multipart/form-data; boundary=b"}
    refused(ann, HTTP.post(served.url, content=content, headers=headers))


def test_who_may_call(ann: GenerateUser, served: Served, env: Any, prompt: str) -> None:
    body = {"operation": "gen_image", "prompt": prompt}
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {env.anon_key}"},
                    {"Authorization": f"Bearer {env.service_role_key}"}):  # fmt: skip
        for method, path in (("POST", ""), ("GET", "/00000000-0000-0000-0000-000000000000")):
            answer = HTTP.request(method, served.url + path, json=body, headers=headers)
            assert (answer.status_code, answer.json()["charged"]) == (401, 0)
    wrong = HTTP.put(served.url, json=body, headers=ann.headers())
    assert (wrong.status_code, wrong.json()["charged"]) == (405, 0)
    assert HTTP.get(served.url + "/x", headers=ann.headers()).status_code == 404
    preflight = HTTP.options(served.url)
    assert preflight.status_code == 204
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    long = HTTP.post(served.url, json=body, headers={**ann.headers(), "Idempotency-Key": "x" * 256})
    assert long.status_code == 400
    ann.expect(0)


def test_through_the_gateway(ann: GenerateUser, env: Any) -> None:
    """The local stack mounts it as a project would."""
    answer = ann.user.client.functions.invoke(
        "generate", {"body": {"operation": "dalle3_image", "n": 2, "dry_run": True}, "responseType": "json"}
    )
    assert answer == {
        "operation": "dalle3_image",
        "n": 2,
        "credits": 20,
        "available": 1000,
        "affordable": True,
    }
    bare = HTTP.post(f"{env.functions_url}/generate", json={}, headers={"apikey": env.publishable_key})
    assert bare.status_code == 401


# -- media -------------------------------------------------------------------------------------------------


def jpeg(width: int, height: int) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14)
    sof = b"\xff\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + app0 + sof + b"\xff\xda" + struct.pack(">H", 8) + bytes(20) + b"\xff\xd9"


def webp(kind: bytes, payload: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


FILES: list[tuple[str, bytes, tuple[int | None, int | None]]] = [
    ("image/png", png(640, 480, "a"), (640, 480)),
    ("image/jpeg", jpeg(641, 479), (641, 479)),
    ("image/gif", b"GIF87a" + struct.pack("<HH", 300, 200) + b"\0\0\0;", (300, 200)),
    ("image/webp", webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 176, 144) + b"\0\0"), (176, 144)),
    ("image/webp", webp(b"VP8L", b"\x2f" + struct.pack("<I", 99 | 49 << 14) + bytes(20)), (100, 50)),
    ("image/webp", webp(b"VP8X", bytes(4) + b"\x7f\x02\x00\xdf\x01\x00"), (640, 480)),
    ("video/mp4", mp4(64, 64, 1, "a"), (None, None)),
    ("video/webm", b"\x1a\x45\xdf\xa3\x93\x42\x82\x84webm" + b"\x18\x53\x80\x67" + bytes(20), (None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("mime_type", "data", "size"), FILES)
def test_files_are_known_by_their_bytes(
    mime_type: str, data: bytes, size: tuple[int | None, int | None]
) -> None:
    found = media.check(data)
    assert (found.mime_type, (found.width, found.height)) == (mime_type, size)
    for cut in (len(data) - 1, len(data) // 2, 13, 5, 1, 0):
        if mime_type == "video/webm" and cut > 13:
            continue  # a stream: it has no end that is known
        with pytest.raises(media.BadMediaError):
            media.check(data[:cut])


def test_every_damage_is_told_and_none_raises_otherwise() -> None:
    for _, data, _ in FILES:
        for at in range(min(len(data), 64)):
            for value in (0x00, 0xFF, data[at] ^ 0x01):
                damaged = data[:at] + bytes([value]) + data[at + 1 :]
                with contextlib.suppress(media.BadMediaError):
                    media.check(damaged)


def test_too_many_pixels() -> None:
    for data in (bomb(), jpeg(65_535, 65_535), webp(b"VP8X", bytes(4) + b"\xff" * 6), jpeg(0, 10)):
        with pytest.raises(media.BadMediaError, match="pixels"):
            media.check(data)
