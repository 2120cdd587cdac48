"""Every way a provider's call can end, and what is charged for it."""

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from scripts.local.providers.control import Control
from scripts.local.stack import ports
from tests.support.clock import until
from tests.support.generate import HTTP, PNG, GenerateUser, assert_error
from tests.support.served import Served
from tests.support.stack import Env


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("operation", "price", "mime_type"),
    [
        ("gen_image", 10, "image/png"),
        ("gen_stable", 3, "image/png"),
        ("gen_gemini", 5, "image/png"),
        ("gen_vision", 8, "text/plain"),
    ],
)
def test_delivered_is_charged(
    ann: GenerateUser,
    served: Served,
    prompt: str,
    control: Control,
    operation: str,
    price: int,
    mime_type: str,
) -> None:
    body = {"inputs": [ann.upload("cat.png")]} if operation == "gen_vision" else {}
    answer = ann.post(served, prompt, operation=operation, key="k", **body)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert (job["operation"], job["credits_charged"], job["available"]) == (operation, price, 1000 - price)
    (output,) = job["outputs"]
    assert output["mime_type"] == mime_type
    stored = HTTP.get(output["url"])
    assert stored.status_code == 200
    assert stored.headers["content-type"].startswith(mime_type)
    if mime_type == "image/png":
        assert output["width"] > 0 and output["height"] > 0
        assert stored.content.startswith(b"\x89PNG")
    else:
        assert (output["width"], output["height"]) == (None, None) and stored.text.strip()
    row = ann.row(job["job"])
    assert row["outputs"][0]["path"].startswith(f"{ann.account}/{job['job']}/0.")
    assert row["transaction_id"] == job["transaction_id"]
    ann.expect(price)
    assert ann.usage() == ["succeeded"]

    # A repeat is answered from the row, with URLs of its own.
    again = ann.post(served, prompt, operation=operation, key="k", **body)
    assert again.status_code == 200
    assert {**again.json(), "outputs": None} == {**job, "outputs": None}
    assert HTTP.get(again.json()["outputs"][0]["url"]).content == stored.content
    assert control.paid(match=prompt) == 1
    ann.expect(price)
    # And so does GET.
    assert ann.get(served, job["job"]).json()["transaction_id"] == job["transaction_id"]


def test_the_file_is_what_the_provider_made(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    for operation in ("gen_image", "gen_stable", "gen_gemini"):
        mark = f"{prompt} {operation}"
        answer = ann.post(served, mark, operation=operation)
        (call,) = control.calls(match=mark)
        assert list(call.outputs) == [sha(HTTP.get(answer.json()["outputs"][0]["url"]).content)]


def test_edit_sends_the_users_image(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    path = ann.upload("photo.png")
    assert ann.post(served, prompt, operation="gen_edit", inputs=[path]).status_code == 200
    (call,) = control.calls(match=prompt)
    assert call.path.endswith("/images/edits")
    ann.expect(15)
    bare = ann.post(served, prompt + "!", operation="gen_edit")
    assert_error(bare, 400, "PT400")
    assert control.calls(match=prompt + "!") == []
    ann.expect(15)


def test_multipart_upload(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    fields = {"request": json.dumps({"operation": "gen_edit", "prompt": prompt})}
    headers = ann.headers("m")
    for _ in range(2):
        answer = HTTP.post(served.url, data=fields, files={"image": ("c.png", PNG)}, headers=headers)
        assert answer.status_code == 200, answer.text
    other = HTTP.post(served.url, data=fields, files={"image": ("c.png", PNG[:-1])}, headers=headers)
    assert_error(other, 400, "PT400")
    assert control.paid(match=prompt) == 1
    ann.expect(15)


@pytest.mark.parametrize("operation", ["gen_image", "gen_stable", "gen_gemini"])
def test_several_outputs(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str
) -> None:
    answer = ann.post(served, prompt, operation=operation, n=3)
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    assert len({sha(HTTP.get(output["url"]).content) for output in outputs}) == 3
    calls = control.calls(match=prompt)
    assert sum(call.n or 1 for call in calls) == 3
    assert len(calls) == (1 if operation == "gen_image" else 3)
    ann.expect({"gen_image": 30, "gen_stable": 9, "gen_gemini": 15}[operation])


def test_k_of_n_charges_k(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    control.fault("openai", "partial", k=2, match=prompt)
    answer = ann.post(served, prompt, n=5)
    assert (len(answer.json()["outputs"]), answer.json()["credits_charged"]) == (2, 20)
    ann.expect(20)
    assert ann.usage() == ["partial"]
    # Where a job takes several requests, one that fails takes nothing from the others.
    control.fault("stability", "error", match=prompt)
    answer = ann.post(served, prompt, operation="gen_stable", n=3)
    assert (len(answer.json()["outputs"]), answer.json()["credits_charged"]) == (2, 6)
    ann.expect(26)


BEFORE_ACCEPTANCE: list[tuple[str, dict[str, Any], int, str]] = [
    ("error", {"status": 500}, 502, "provider_down"),
    ("error", {"status": 503}, 502, "provider_down"),
    ("rate_limit", {"retry_after": 3000}, 429, "provider_busy"),
]


@pytest.mark.parametrize(
    ("operation", "provider"),
    [("gen_image", "openai"), ("gen_stable", "stability"), ("gen_gemini", "gemini"), ("gen_video", "runway")],
)
def test_before_acceptance_is_released(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str, provider: str
) -> None:
    for kind, options, status, code in BEFORE_ACCEPTANCE:
        mark = f"{prompt} {options}"
        control.fault(provider, kind, match=mark, **options)
        first = ann.post(served, mark, operation=operation, key=mark)
        assert_error(first, status, code)
        assert len(control.calls(match=mark)) == 1
        ann.expect(0)
        again = ann.post(served, mark, operation=operation, key=mark)
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert len(control.calls(match=mark)) == 1
    assert ann.usage() == ["failed"] * len(BEFORE_ACCEPTANCE)


@pytest.mark.parametrize("times", [1, 2])
def test_retry_after_is_honoured_once(
    ann: GenerateUser, served: Served, prompt: str, control: Control, times: int
) -> None:
    control.fault("openai", "rate_limit", times=times, retry_after=1, match=prompt)
    began = time.monotonic()
    answer = ann.post(served, prompt)
    assert time.monotonic() - began >= 1
    assert len(control.calls(match=prompt)) == 2
    if times == 1:
        assert answer.status_code == 200
        ann.expect(10)
    else:
        assert_error(answer, 429, "provider_busy")
        ann.expect(0)


def test_refused_connection_is_released(ann: GenerateUser, serve: Callable[..., Served], prompt: str) -> None:
    nowhere = serve(OPENAI_BASE_URL=f"http://127.0.0.1:{ports.ephemeral()}/v1")
    assert_error(ann.post(nowhere, prompt), 502, "provider_down")
    ann.expect(0)
    assert ann.usage() == ["failed"]


NO_ANSWER: list[tuple[str, dict[str, Any]]] = [
    ("drop", {"accepted": True}),
    ("drop", {"accepted": False}),
    ("error", {"status": 504, "accepted": True}),
]


@pytest.mark.parametrize(
    ("operation", "provider"),
    [("gen_image", "openai"), ("gen_stable", "stability"), ("gen_gemini", "gemini")],
)
def test_no_answer_keeps_the_hold_until_the_sweep(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str, provider: str
) -> None:
    price = {"gen_image": 10, "gen_stable": 3, "gen_gemini": 5}[operation]
    for kind, options in NO_ANSWER:
        mark = f"{prompt} {kind} {options}"
        control.fault(provider, kind, match=mark, **options)
        body = assert_error(ann.post(served, mark, operation=operation, key=mark), 504, "no_answer")
        assert ann.row(body["job"])["status"] == "unknown"
        ann.expect(0, held=price)
        # Never a second POST, by no repeat either.
        assert_error(ann.post(served, mark, operation=operation, key=mark), 504, "no_answer")
        assert len(control.calls(match=mark)) == 1
        assert body["poll"] == f"/functions/v1/generate/{body['job']}"
        polled = ann.get(served, body["job"])
        assert (polled.status_code, polled.json()["status"]) == (202, "unknown")
        ann.sweep()
        ann.expect(0)
        assert_error(ann.get(served, body["job"]), 504, "deadline")
    assert ann.usage() == ["unknown"] * len(NO_ANSWER)


def test_time_out_by_the_clock(
    ann: GenerateUser, served: Served, prompt: str, control: Control, env: Env
) -> None:
    """Nothing moved by hand: a deadline of 5 seconds, and the stack's own maintenance."""
    control.fault("openai", "slow", ms=15_000, match=prompt)
    body = assert_error(ann.post(served, prompt, operation="gen_short"), 504, "no_answer")
    assert [call.status for call in control.calls(match=prompt)] == [None]  # the provider is still at it
    ann.expect(0, held=10)
    until(lambda: ann.row(body["job"])["status"] == "expired", 12)
    ann.expect(0)
    assert ann.usage() == ["unknown"]


@pytest.mark.parametrize(
    ("operation", "provider"),
    [("gen_image", "openai"), ("gen_stable", "stability"), ("gen_gemini", "gemini")],
)
def test_policy_refusal(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str, provider: str
) -> None:
    for stage in ("input", "output"):
        mark = f"{prompt} {stage}"
        control.fault(provider, "refusal", stage=stage, match=mark)
        assert_error(ann.post(served, mark, operation=operation, key=mark), 422, "refused")
        assert_error(ann.post(served, mark, operation=operation, key=mark), 422, "refused")
        assert len(control.calls(match=mark)) == 1
        ann.expect(0)
    assert ann.usage() == ["refused"] * 2


def test_a_refusal_is_charged_where_the_price_says_so(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    control.fault("openai", "refusal", match=prompt)
    answer = ann.post(served, prompt, operation="gen_strict")
    assert (answer.status_code, answer.json()["code"], answer.json()["charged"]) == (422, "refused", 10)
    ann.expect(10)


UNUSABLE: list[tuple[str, dict[str, Any]]] = [
    ("empty", {}),
    ("empty", {"bare": True}),
    ("wrong_type", {"what": "html"}),
    ("wrong_type", {"what": "truncated"}),
    ("wrong_type", {"what": "not_media"}),
    ("oversize", {"what": "bytes", "mb": 40}),
    ("oversize", {"what": "pixels"}),
]


@pytest.mark.parametrize(
    ("operation", "provider"),
    [("gen_image", "openai"), ("gen_stable", "stability"), ("gen_gemini", "gemini")],
)
def test_an_unusable_answer_is_released(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str, provider: str
) -> None:
    for kind, options in UNUSABLE:
        control.fault(provider, kind, match=prompt, **options)
        assert_error(ann.post(served, prompt, operation=operation), 502, "no_output")
        ann.expect(0)
    assert ann.usage() == ["failed"] * len(UNUSABLE)
    assert ann.user.client.storage.from_("generations").list(ann.account) == []


def test_an_empty_text_is_released(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    control.fault("gemini", "empty", match=prompt)
    assert_error(ann.post(served, prompt, operation="gen_vision"), 502, "no_output")
    ann.expect(0)


def test_a_client_who_is_gone_finds_the_output_later(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    control.fault("openai", "slow", ms=1200, match=prompt)
    body = {"operation": "gen_image", "prompt": prompt}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(served.url, json=body, headers=ann.headers("k"), timeout=0.5, trust_env=False)
    until(lambda: [job["status"] for job in ann.all_jobs()] == ["succeeded"])
    ann.expect(10)
    assert ann.post(served, prompt, key="k").status_code == 200
    assert control.paid(match=prompt) == 1
    ann.expect(10)


def test_ten_connections_with_one_key(
    ann: GenerateUser, served: Served, serve: Callable[..., Served], prompt: str, control: Control
) -> None:
    """One process and another beside it: one provider call, one charge, one answer."""
    other = serve()
    control.fault("openai", "slow", ms=500, match=prompt)
    barrier = threading.Barrier(10)

    def call(process: Served) -> httpx.Response:
        barrier.wait()
        return ann.post(process, prompt, key="k")

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(call, [served, other] * 5))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert len({answer.json()["transaction_id"] for answer in answers}) == 1
    assert control.paid(match=prompt) == len(control.calls(match=prompt)) == 1
    ann.expect(10)


def test_the_same_key_with_another_request(ann: GenerateUser, served: Served, prompt: str) -> None:
    assert ann.post(served, prompt, key="k").status_code == 200
    for change in ({"prompt": prompt + "!"}, {"n": 2}, {"options": {"quality": "low"}}):
        body = {"prompt": prompt, **change}
        assert_error(ann.post(served, key="k", **body), 409, "PT409")  # type: ignore[arg-type]
    ann.expect(10)


def test_refusals_of_the_database(
    ann: GenerateUser, served: Served, prompt: str, control: Control, env: Env
) -> None:
    ann.db.execute("update public.credit_accounts set frozen_at = now() where id = %s", [ann.account])
    assert_error(ann.post(served, prompt), 403, "PT403")
    ann.db.execute("update public.credit_accounts set frozen_at = null where id = %s", [ann.account])
    assert_error(ann.post(served, prompt, operation="no_such"), 404, "PT404")
    ann.post(served, prompt, operation="gen_image", n=10, key=uuid.uuid4().hex)
    assert control.paid(match=prompt) == 1
    for _ in range(9):
        ann.post(served, prompt, operation="gen_image", n=10)
    broke = assert_error(ann.post(served, prompt), 402, "PT402")
    assert '"shortfall"' in broke["details"] or broke["details"]["shortfall"]
    ann.expect(1000)


def test_too_many(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    """Ten may be under way at once; then 429 says when to come back."""
    control.fault("openai", "slow", times=None, ms=1500, match=prompt)
    with ThreadPoolExecutor(14) as pool:
        answers = list(pool.map(lambda _: ann.post(served, prompt), range(14)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 4
    for answer in refused:
        assert_error(answer, 429, "PT429")
        assert int(answer.headers["retry-after"]) > 0
    ann.expect(100)


def test_a_dry_run_tells_the_price_and_holds_nothing(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    answer = ann.post(served, prompt, n=3, dry_run=True, key="k")
    assert answer.json() == {
        "operation": "gen_image", "n": 3, "credits": 30, "available": 1000, "affordable": True
    }  # fmt: skip
    without_prompt = HTTP.post(
        served.url, json={"operation": "gen_video", "dry_run": True}, headers=ann.headers()
    )
    assert without_prompt.json()["credits"] == 50
    assert ann.all_jobs() == [] and control.calls(match=prompt) == []
    ann.expect(0)


def test_an_operation_nobody_does(ann: GenerateUser, served: Served, prompt: str) -> None:
    assert_error(ann.post(served, prompt, operation="gen_nowhere"), 500, "not_set_up")
    ann.expect(0)


def test_a_wrong_key_of_a_provider(ann: GenerateUser, serve: Callable[..., Served], prompt: str) -> None:
    wrong = serve(OPENAI_API_KEY="wrong")
    assert_error(ann.post(wrong, prompt), 502, "provider_key")
    ann.expect(0)


def test_prompts_stay_out_of_logs_and_database(
    ann: GenerateUser, serve: Callable[..., Served], control: Control, prompt: str
) -> None:
    served = serve()
    secret = f"xyzzy{uuid.uuid4().hex}"
    for operation in ("gen_image", "gen_stable", "gen_gemini", "gen_vision", "gen_video"):
        provider = {"gen_image": "openai", "gen_stable": "stability", "gen_video": "runway"}.get(
            operation, "gemini"
        )
        for fault in (None, "refusal", "drop", "wrong_type", "error"):
            if fault:
                control.fault(provider, fault, match=f"{secret} {operation} {fault}")
            answer = ann.post(served, f"{secret} {operation} {fault}", operation=operation)
            # A text that was made of it may quote it, and is the user's.
            assert secret not in answer.text or (operation, fault) == ("gen_vision", None)
            ann.sweep() if fault == "drop" else None
    control.fault("runway", "wrong_type", match=secret)
    until(lambda: all(job["finished_at"] for job in ann.all_jobs()))
    assert secret not in served.log()
    tables = ann.db.execute(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname in ('public', 'credits', 'storage')"
    ).fetchall()
    for (table,) in tables:
        found = ann.db.execute(
            f"select count(*) from {table} as t where t::text like %s", [f"%{secret}%"]
        ).fetchone()
        assert found == (0,), table
