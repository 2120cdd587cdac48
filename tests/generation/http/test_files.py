"""Inputs that are read from Storage, and what is given back beside the URLs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from _shared.generation.media import INLINE_BYTES, Media, text
from scripts.local.providers.control import Control
from supabase import Client
from tests.support.generate import HTTP, PNG, GenerateUser
from tests.support.served import Served


def test_a_storage_that_is_away_gives_the_credits_back(
    ann: GenerateUser, serve: Callable[..., Served], prompt: str, control: Control, tmp_path: Path
) -> None:
    """The key is used up then, and the answer says so, now and later."""
    away = tmp_path / "away"
    served = serve("tests.generation.http.away", AWAY="download", AWAY_WHILE=str(away))
    path = ann.upload("cat.png")
    away.touch()
    for _ in range(2):
        answer = ann.post(served, prompt, key="k", operation="gen_edit", inputs=[path])
        assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (503, "not_read", 0)
        assert "new Idempotency-Key" in answer.json()["message"]
        away.unlink(missing_ok=True)
    assert [job["dispatched_at"] for job in ann.all_jobs()] == [None]
    assert ann.usage() == []  # nobody was asked
    ann.expect(0)
    assert ann.post(served, prompt, key="new", operation="gen_edit", inputs=[path]).status_code == 200
    ann.expect(15)
    assert control.paid(match=prompt) == 1


def test_a_short_absence_is_not_noticed(
    ann: GenerateUser, serve: Callable[..., Served], prompt: str, control: Control, tmp_path: Path
) -> None:
    away = tmp_path / "away.once"
    served = serve("tests.generation.http.away", AWAY="download", AWAY_WHILE=str(away))
    away.touch()
    answer = ann.post(served, prompt, operation="gen_edit", inputs=[ann.upload("cat.png")])
    assert answer.status_code == 200, answer.text
    assert not away.exists()
    ann.expect(15)


def test_what_cannot_be_an_input_burns_no_key(
    ann: GenerateUser, served: Served, service: Client, prompt: str, control: Control
) -> None:
    missing = f"{ann.account}/inputs/late.png"
    video = f"{ann.account}/inputs/clip.mp4"
    huge = f"{ann.account}/inputs/huge.png"
    bucket = service.storage.from_("generations")
    bucket.upload(video, b"x", {"content-type": "video/mp4"})
    bucket.upload(huge, bytes(33 * 1024 * 1024), {"content-type": "image/png"})
    for path, status in ((missing, 404), (video, 400), (huge, 413)):
        answer = ann.post(served, prompt, key="k", operation="gen_edit", inputs=[path])
        assert (answer.status_code, answer.json()["charged"]) == (status, 0), answer.text
    assert ann.all_jobs() == []
    ann.upload("late.png")
    assert ann.post(served, prompt, key="k", operation="gen_edit", inputs=[missing]).status_code == 200
    ann.expect(15)


def test_a_repeat_outlives_its_input(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    path = ann.upload("cat.png")
    body: dict[str, Any] = {"operation": "gen_edit", "inputs": [path]}
    first = ann.post(served, prompt, key="k", **body)
    ann.user.client.storage.from_("generations").remove([path])
    again = ann.post(served, prompt, key="k", **body)
    assert (again.status_code, again.json()["job"]) == (200, first.json()["job"])
    assert ann.post(served, prompt, key="k", **{**body, "n": 2}).status_code == 409
    assert ann.post(served, prompt, key="new", **body).status_code == 404
    assert control.paid(match=prompt) == 1
    ann.expect(15)


def test_what_is_no_image_is_no_call_of_a_provider(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    path = ann.upload("fake.png", b"<html>")
    for _ in range(2):
        answer = ann.post(served, prompt, key="k", operation="gen_edit", inputs=[path])
        assert (answer.status_code, answer.json()["charged"]) == (400, 0)
    assert (ann.usage(), control.calls(match=prompt)) == ([], [])
    ann.expect(0)


def test_a_dry_run_takes_no_files(ann: GenerateUser, served: Served, prompt: str) -> None:
    fields = {"request": json.dumps({"operation": "gen_edit", "prompt": prompt, "dry_run": True})}
    answer = HTTP.post(served.url, data=fields, files={"image": ("c.png", PNG)}, headers=ann.headers())
    assert (answer.status_code, answer.json()["charged"]) == (400, 0)
    assert "dry run" in answer.json()["message"]
    bare = HTTP.post(served.url, data=fields, files={"x": ""}, headers=ann.headers())
    assert bare.status_code == 400
    quote = ann.post(served, prompt, operation="gen_edit", dry_run=True)
    assert quote.json()["credits"] == 15


def test_a_text_comes_with_the_answer(
    ann: GenerateUser, served: Served, service: Client, prompt: str, control: Control
) -> None:
    answer = ann.post(served, prompt, key="k", operation="gen_vision", inputs=[ann.upload("cat.png")])
    (output,) = answer.json()["outputs"]
    assert output["mime_type"] == "text/plain"
    assert output["text"] == HTTP.get(output["url"]).text != ""
    job = answer.json()["job"]

    def repeats() -> list[httpx.Response]:
        return [
            ann.post(
                served, prompt, key="k", operation="gen_vision", inputs=[f"{ann.account}/inputs/cat.png"]
            ),
            ann.get(served, job),
        ]

    assert [again.json()["outputs"][0]["text"] for again in repeats()] == [output["text"]] * 2
    # One that is too long for it has its URL.
    path = ann.row(job)["outputs"][0]["path"]
    over: Any = {"content-type": "text/plain", "upsert": "true"}
    for length, shown in ((INLINE_BYTES, True), (INLINE_BYTES + 1, False)):
        service.storage.from_("generations").upload(path, b"x" * length, over)
        for again in repeats():
            (output,) = again.json()["outputs"]
            assert output["text"] == ("x" * length if shown else None)
            assert len(HTTP.get(output["url"]).content) == length
    image = ann.post(served, prompt).json()["outputs"][0]
    assert "text" not in image
    ann.expect(18)


def test_a_long_text_is_not_inline() -> None:
    assert text("ä" * (INLINE_BYTES // 2)).inline == "ä" * (INLINE_BYTES // 2)
    assert text("x" * (INLINE_BYTES + 1)).inline is None
    assert Media(b"x", "image/png", 1, 1).inline is None


def test_usage_is_the_users_to_read(
    ann: GenerateUser, caller: Callable[..., GenerateUser], served: Served, prompt: str, control: Control
) -> None:
    bob = caller()
    job = ann.post(served, prompt, n=2).json()
    control.fault("openai", "refusal", match=prompt + "!")
    ann.post(served, prompt + "!")
    table = ann.user.client.table("usage_logs")
    rows: Any = table.select("*").order("id").execute().data
    known = [(row["operation"], row["model"], row["units"], row["status"]) for row in rows]
    assert known == [
        ("gen_image", "gpt-image-2.6-flare", 2, "succeeded"),
        ("gen_image", "gpt-image-2.6-flare", 0, "refused"),
    ]
    assert rows[0]["latency_ms"] > 0 and rows[0]["transaction_id"] == job["transaction_id"]
    assert not any("cost" in column for column in rows[0])
    assert bob.user.client.table("usage_logs").select("*").execute().data == []
