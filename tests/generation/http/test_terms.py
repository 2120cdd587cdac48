"""What is sold is what is asked for, at the price of it; and what providers say when they fail."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError

from _shared.generation import calls
from _shared.generation.media import Media
from _shared.generation.providers import provider
from _shared.generation.providers.protocol import NotSetUpError, Reply, Work
from scripts.local.providers.control import Control
from scripts.local.providers.png import png
from tests.support.clock import until
from tests.support.generate import HTTP, PNG, GenerateUser, assert_error
from tests.support.served import Served
from tests.support.stack import Env

PICTURE = Media(PNG, "image/png", 64, 48)


def quoted(ann: GenerateUser, served: Served, operation: str, **body: Any) -> int:
    """What dry_run says."""
    answer = HTTP.post(
        served.url, json={"operation": operation, "dry_run": True, **body}, headers=ann.headers()
    )
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["credits"]
    return found


@pytest.mark.parametrize(
    ("options", "price", "size"),
    [
        ({}, 10, (1024, 1024)),
        ({"quality": "max"}, 30, (1024, 1024)),
        ({"size": "3840x2160"}, 18, (3840, 2160)),
        ({"size": "3840x2160", "quality": "max"}, 38, (3840, 2160)),
    ],
)
def test_dear_options_cost_more(
    ann: GenerateUser, served: Served, prompt: str, control: Control, options: dict[str, Any], price: int,
    size: tuple[int, int],
) -> None:  # fmt: skip
    assert quoted(ann, served, "gen_image", options=options) == price
    answer = ann.post(served, prompt, options=options)
    assert (answer.status_code, answer.json()["credits_charged"]) == (200, price)
    (output,) = answer.json()["outputs"]
    assert (output["width"], output["height"]) == size
    ann.expect(price)
    # The call's tokens at the prices of provider_costs: low is 272, max 16640 a square megapixel.
    quality = {"quality": "low"} | options
    tokens = {"low": 272, "max": 16640}[quality["quality"]] * size[0] * size[1] // 1024**2
    words = len(prompt) // 4 + 1
    assert cost(ann) == Decimal(words * 5 + tokens * 30) / 1_000_000
    assert control.paid(match=prompt) == 1


def cost(ann: GenerateUser) -> Decimal:
    row = ann.db.execute(
        "select provider_cost from credits.usage_logs where account_id = %s order by id desc limit 1",
        [ann.account],
    ).fetchone()
    assert row
    found: Decimal = row[0]
    return found


def test_images_are_for_those_who_pay_for_an_edit(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    """dalle3_image (10) took inputs, and so gave what image_edit sells for 15."""
    path = ann.upload("cat.png")
    for operation in ("dalle3_image", "gen_image", "stable_diffusion", "gen_gemini"):
        refused = ann.post(served, prompt, operation=operation, inputs=[path], key="k")
        assert f"{operation} takes no images." == assert_error(refused, 400, "PT400")["message"]
        fields = {"request": json.dumps({"operation": operation, "prompt": prompt})}
        answer = HTTP.post(served.url, data=fields, files={"image": ("c.png", PNG)}, headers=ann.headers("k"))
        assert_error(answer, 400, "PT400")
    assert (ann.all_jobs(), ann.usage(), control.calls(match=prompt)) == ([], [], [])
    ann.expect(0)
    # The key is not burnt.
    assert ann.post(served, prompt, key="k").status_code == 200
    ann.expect(10)


def test_sixteen_images_and_a_mask(ann: GenerateUser, served: Served, prompt: str, control: Control) -> None:
    paths = [ann.upload(f"{number}.png", png(32, 32, str(number))) for number in range(16)]
    mask = ann.upload("mask.png")
    answer = ann.post(served, prompt, operation="gen_edit", inputs=paths, mask=mask)
    assert answer.status_code == 200, answer.text
    (call,) = control.calls(match=prompt)
    assert call.path.endswith("/images/edits")
    assert cost(ann) > Decimal(16 * 323 * 8) / 1_000_000
    ann.expect(15 + 15)
    more = ann.post(served, prompt, operation="gen_edit", inputs=[*paths, mask])
    assert "At most 16" in assert_error(more, 400, "PT400")["message"]
    # And as they come with the request.
    fields = {"request": json.dumps({"operation": "gen_edit", "prompt": prompt})}
    files = [("image", ("a.png", PNG)), ("image", ("b.png", PNG)), ("mask", ("m.png", PNG))]
    sent = HTTP.post(served.url, data=fields, files=files, headers=ann.headers("m"))
    assert sent.status_code == 200, sent.text
    ann.expect(15 + 15 + 16)
    other = [*files[:2], ("mask", ("m.png", png(64, 48, "other")))]
    again = HTTP.post(served.url, data=fields, files=other, headers=ann.headers("m"))
    assert_error(again, 409, "PT409")
    two = HTTP.post(served.url, data=fields, files=[*files, files[2]], headers=ann.headers())
    assert_error(two, 400, "PT400")
    lone = ann.post(served, prompt, operation="gen_image", mask=mask)
    assert_error(lone, 400, "PT400")


def begun(ann: GenerateUser, **arguments: Any) -> dict[str, Any]:
    """begin_generation, as the user calls it without the function."""
    called = ann.user.client.rpc("begin_generation", {"operation": "gen_image", "quantity": 1, **arguments})
    job: Any = called.execute().data
    assert isinstance(job, dict)
    return job


def test_a_cheap_job_of_ones_own_is_not_run_dear(
    ann: GenerateUser, served: Served, env: Env, prompt: str, control: Control
) -> None:
    """begin_generation is open to users: with the digest of a dear request and the options of a cheap one."""
    body: dict[str, Any] = {"operation": "gen_image", "prompt": prompt, "options": {"quality": "max"}}
    canonical = {"n": 1, "inputs": [], "uploads": [], "mask": None, **body}
    digest = hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()
    lies: list[dict[str, Any]] = [{}, {"options": {"quality": "low"}}, {"prompt_length": len(prompt)}]
    for number, told in enumerate(lies):
        key = f"theft-{number}"
        assert begun(ann, request=digest, idempotency_key=key, **told)["credits_held"] == 10
        assert_error(HTTP.post(served.url, json=body, headers=ann.headers(key)), 409, "PT409")
    assert control.calls(match=prompt) == []
    ann.expect(0, held=30)
    # Told the truth, it is the same job as the function's, at the function's price.
    job = begun(
        ann, request=digest, idempotency_key="honest", options=body["options"], prompt_length=len(prompt)
    )
    answer = HTTP.post(served.url, json=body, headers=ann.headers("honest"))
    assert (answer.json()["job"], answer.json()["credits_charged"]) == (job["id"], 30)
    ann.expect(30, held=30)


def test_the_provider_is_asked_with_the_default_that_was_paid_for(
    ann: GenerateUser, served: Served, prompt: str
) -> None:
    """Without one OpenAI takes quality auto, which may be its dearest."""
    job = ann.post(served, prompt).json()["job"]
    assert ann.row(job)["options"] == {"size": "1024x1024", "quality": "low"}
    assert tokens(ann)["output_image"] == 272


def tokens(ann: GenerateUser) -> dict[str, int]:
    row = ann.db.execute(
        "select tokens from credits.usage_logs where account_id = %s order by id desc limit 1", [ann.account]
    ).fetchone()
    assert row
    found: dict[str, int] = row[0]
    return found


def finished(ann: GenerateUser, served: Served, begun: httpx.Response) -> httpx.Response:
    """The answer once it is no 202 any more."""
    job = begun.json()["job"]
    until(lambda: ann.get(served, job).status_code != 202)
    return ann.get(served, job)


def test_ten_seconds_are_charged_as_ten(ann: GenerateUser, served: Served, prompt: str) -> None:
    """10 s at 8 per second were charged 8."""
    assert quoted(ann, served, "gen_seconds", options={"duration": 10}) == 80
    started = ann.post(served, prompt, operation="gen_seconds", options={"duration": 10})
    assert started.status_code == 202, started.text
    ann.expect(0, held=80)
    done = finished(ann, served, started)
    assert done.json()["credits_charged"] == 80
    ann.expect(80)
    assert cost(ann) == Decimal("1.20")


def test_inputs_that_are_not_there_are_refused_before_the_hold(
    ann: GenerateUser, served: Served, prompt: str, control: Control, caller: Callable[..., GenerateUser]
) -> None:
    bob = caller()
    theirs = bob.upload("cat.png")
    for number, path in enumerate((f"{ann.account}/inputs/no.png", theirs)):
        answer = ann.post(served, prompt, operation="gen_edit", inputs=[path], key=f"k{number}")
        assert_error(answer, 404, "PT404")
    gif = ann.upload("a.gif", b"GIF89a\x02\0\x02\0\0\0;", "image/gif")
    assert_error(ann.post(served, prompt, operation="gen_edit", inputs=[gif], key="k2"), 400, "PT400")
    assert (ann.all_jobs(), ann.usage(), control.calls(match=prompt)) == ([], [], [])
    ann.expect(0)
    path = ann.upload("no.png")
    for number in range(3):
        answer = ann.post(served, prompt, operation="gen_edit", inputs=[path], key=f"k{number}")
        assert answer.status_code == 200


def test_more_than_a_process_should_hold_is_refused_before_the_hold(
    ann: GenerateUser, served: Served, prompt: str
) -> None:
    paths = [ann.upload(f"{number}.png") for number in range(2)]
    ann.db.execute(
        """update storage.objects set metadata = metadata || '{"size": 25000001}' where name = any(%s)""",
        [paths],
    )
    assert ann.post(served, prompt, operation="gen_edit", inputs=paths[:1]).status_code == 200
    assert_error(ann.post(served, prompt, operation="gen_edit", inputs=paths, key="k"), 413, "PT413")
    with pytest.raises(APIError, match="too many"):
        begun(ann, operation="gen_edit", request="0" * 64, inputs=1, files=[paths[0]] * 18)
    ann.expect(15)


def test_a_repeat_outlives_its_inputs(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    path = ann.upload("cat.png")
    first = ann.post(served, prompt, operation="gen_edit", inputs=[path], key="k")
    ann.user.client.storage.from_("generations").remove([path])
    again = ann.post(served, prompt, operation="gen_edit", inputs=[path], key="k")
    assert (again.status_code, again.json()["job"]) == (200, first.json()["job"])
    assert control.paid(match=prompt) == 1


def test_what_came_to_no_call_is_in_no_log(ann: GenerateUser, served: Served, prompt: str) -> None:
    """An input that says that it is a PNG, and is none, is found out only when it is read."""
    path = ann.upload("false.png", b"hello")
    assert_error(ann.post(served, prompt, operation="gen_edit", inputs=[path]), 400, "PT400")
    assert ann.usage() == []
    ann.expect(0)


def test_quotes_are_of_what_would_be_charged(ann: GenerateUser, served: Served) -> None:
    assert quoted(ann, served, "image_edit") == 15
    assert quoted(ann, served, "image_edit", inputs=[f"{ann.account}/inputs/{n}.png" for n in range(3)]) == 17
    assert quoted(ann, served, "video_generation", options={"duration": 10}) == 100
    assert quoted(ann, served, "ghibli_style", inputs=[f"{ann.account}/inputs/a.png"]) == 15
    bad = HTTP.post(
        served.url, json={"operation": "dalle3_image", "dry_run": True, "options": {"quality": "best"}},
        headers=ann.headers(),
    )  # fmt: skip
    assert "one of low" in assert_error(bad, 400, "PT400")["message"]


# -- the seed ----------------------------------------------------------------------------------------------


SEED = {
    "dalle3_image": 10, "gemini_pro_vision": 8, "stable_diffusion": 3, "image_edit": 15,
    "video_generation": 50, "meme_generation": 5, "ghibli_style": 8, "cartoon_style": 6,
}  # fmt: skip


def seeded(ann: GenerateUser) -> Iterator[tuple[str, str, str, int, dict[str, Any]]]:
    found = ann.db.execute(
        "select operation, provider, model, credits_per_unit, terms from public.pricing_tiers "
        "where operation = any(%s)", [list(SEED)],
    ).fetchall()  # fmt: skip
    assert {row[0]: row[3] for row in found} == SEED
    yield from found


def test_everything_that_the_seed_offers_its_adapters_have(ann: GenerateUser) -> None:
    for operation, name, model, _, terms in seeded(ann):
        adapter = provider(name)
        images = [PICTURE] * terms.get("inputs", {}).get("max", 0)
        work = Work(
            operation, model, "x" * terms.get("max_prompt", 10_000), terms.get("max_n", 10), {}, images,
            terms.get("output", "image"), PICTURE if terms.get("mask") else None,
        )  # fmt: skip
        adapter.check(work)
        bare = Work(operation, model, "x", 1, {}, (), terms.get("output", "image"))
        for option, spec in terms.get("options", {}).items():
            # Keys of what costs something are words, but numbers where they look so.
            values = [int(v) if isinstance(v, str) and v.isdecimal() else v for v in spec.get("values", [])]
            for value in [*values, *(spec[end] for end in ("min", "max") if end in spec)]:
                for case in (work, bare):
                    assert value in adapter.options(case)[option], (operation, option, value)


def test_every_operation_of_the_seed_is_delivered_at_its_price_and_cost(
    ann: GenerateUser, served: Served, prompt: str
) -> None:
    charged = 0
    for operation, _, _, price, terms in seeded(ann):
        need = terms.get("inputs", {}).get("min", 0)
        inputs = [ann.upload(f"{operation}.png")] * need
        answer = ann.post(served, prompt, operation=operation, inputs=inputs)
        assert answer.status_code in (200, 202), answer.text
        done = finished(ann, served, answer)
        assert done.json()["credits_charged"] == price
        charged += price
        kind = done.json()["outputs"][0]["mime_type"]
        assert kind.startswith({"text": "text/", "video": "video/"}.get(terms.get("output", ""), "image/"))
        # Each has a cost, and none is sold below it: 7 cents is the least that a credit brings.
        assert 0 < cost(ann) < Decimal(price) * Decimal("0.07"), operation
    ann.expect(charged)


# -- how providers fail ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "name"),
    [("gen_image", "openai"), ("gen_gemini", "gemini"), ("gen_stable", "stability"), ("gen_video", "runway")],
)
def test_failures_are_told_apart(
    ann: GenerateUser, served: Served, prompt: str, control: Control, operation: str, name: str
) -> None:
    for why, code, says in (
        ("model", "model_gone", "no longer offers the model"),
        ("quota", "provider_quota", "used up"),
        ("key", "provider_key", "let this app in"),
    ):
        control.fault(name, "turned_down", why=why, match=prompt)
        answer = assert_error(ann.post(served, prompt, operation=operation), 502, code)
        assert says in answer["message"] and "operator" in answer["message"]
        assert not {"busy", "prompt", "again"} & set(answer["message"].split())
        assert f" {code}" in served.log()
        counted = ann.db.execute(
            "select sum(jobs) from credits.generation_failures where failure = %s and operation = %s",
            [code, operation],
        ).fetchone()
        assert counted and counted[0] >= 1
    # A quota is not waited for.
    assert len(control.calls(match=prompt)) == 3
    ann.expect(0)


def test_a_retired_model_is_told_as_such(ann: GenerateUser, served: Served, prompt: str) -> None:
    assert_error(ann.post(served, prompt, operation="gen_retired"), 502, "model_gone")
    assert ann.usage() == ["failed"]
    ann.expect(0)


def test_a_missing_key_is_the_operators(ann: GenerateUser, serve: Callable[..., Served], prompt: str) -> None:
    served = serve(OPENAI_API_KEY="")
    answer = ann.post(served, prompt)
    assert "OPENAI" not in answer.text
    assert_error(answer, 502, "provider_key")
    assert "OPENAI_API_KEY" in served.log()
    assert ann.usage() == []
    ann.expect(0)


def test_a_price_that_its_provider_cannot_deliver(ann: GenerateUser, served: Served, prompt: str) -> None:
    answer = ann.post(served, prompt, operation="gen_misfit", inputs=[ann.upload("cat.png")])
    assert_error(answer, 500, "not_set_up")
    assert "terms.inputs.max of gen_misfit" in served.log()
    assert ann.usage() == []
    ann.expect(0)


def reply(status: int, body: Any) -> Reply:
    return Reply(status, httpx.Headers(), json.dumps(body).encode())


def error(code: str, kind: str = "requests") -> Any:
    return {"error": {"code": code, "type": kind, "message": "?"}}


def google(status: str, message: str = "?", **details: Any) -> Any:
    return {"error": {"status": status, "message": message, "details": [details]}}


@pytest.mark.parametrize(
    ("name", "answer", "failure"),
    [
        ("openai", reply(429, error("rate_limit_exceeded")), "busy"),
        ("openai", reply(429, error("x", "insufficient_quota")), "quota"),
        ("openai", reply(429, error("project_spend_limit_exceeded")), "quota"),
        ("openai", reply(400, error("billing_hard_limit_reached")), "quota"),
        ("openai", reply(403, error("model_not_found")), "gone"),
        ("openai", reply(403, error("unsupported_country")), "key"),
        ("openai", reply(400, error("invalid_value")), "rejected"),
        ("openai", reply(404, None), "gone"),
        ("google", reply(429, google("RESOURCE_EXHAUSTED", retryDelay="30s")), "busy"),
        ("google", reply(429, google("RESOURCE_EXHAUSTED", violations=[{"quotaId": "XPerMinute"}])), "busy"),
        ("google", reply(429, google("RESOURCE_EXHAUSTED", violations=[{"quotaId": "XPerDayY"}])), "quota"),
        (
            "google",
            reply(429, google("RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")),
            "quota",
        ),
        ("google", reply(400, google("INVALID_ARGUMENT", reason="API_KEY_INVALID")), "key"),
        ("google", reply(400, google("INVALID_ARGUMENT", reason="OTHER")), "rejected"),
        ("google", reply(400, google("FAILED_PRECONDITION", "Please enable billing.")), "quota"),
        ("google", reply(403, google("PERMISSION_DENIED")), "key"),
        ("google", reply(400, [1]), "rejected"),
        ("stability", reply(402, {"name": "payment_required"}), "quota"),
        ("stability", reply(410, {}), "gone"),
        ("runway", reply(400, {"error": "You do not have enough credits to run this task."}), "quota"),
        ("runway", reply(400, {"error": "?", "issues": [{"path": ["model"]}]}), "gone"),
        ("runway", reply(400, {"error": "?", "issues": [{"path": ["ratio"]}]}), "rejected"),
        ("runway", reply(429, {"error": "Daily task limit reached."}), "quota"),
        ("runway", reply(429, {"error": "Too many tasks."}), "busy"),
        ("runway", reply(418, "x"), "rejected"),
    ],
)
def test_what_answers_mean(name: str, answer: Reply, failure: str) -> None:
    assert provider(name).failure(answer) == failure
    assert failure in calls.FAILURES


# -- adapters ----------------------------------------------------------------------------------------------


def test_google_makes_what_the_price_says_whatever_the_models_name() -> None:
    """It went by "image" in the model's name, and gemini-nano-banana-2.1 has none."""
    for model, output in (("gemini-nano-banana-2.1", "image"), ("an-image-model", "text")):
        work = Work("x", model, "a cat", 1, {}, (), output)
        config = provider("google").ask(work).json["generationConfig"]
        assert config["responseModalities"] == [output.upper()]
    drawn = Work("x", "m", "a cat", 1, {"image_size": "4K", "aspect_ratio": "1:8"})
    config = provider("google").ask(drawn).json["generationConfig"]
    assert config["imageConfig"] == {"imageSize": "4K", "aspectRatio": "1:8"}


def test_sizes_of_openai() -> None:
    sizes = provider("openai").options(Work("x", "m", "p", 1, {}))["size"]
    for good in ("auto", "1024x1024", "3840x2160", "2160x3840", "2048x2048", "1536x512"):
        assert good in sizes, good
    for bad in ("512x512", "3856x2160", "1000x1000", "3840x1024", "4096x4096", "1024", "x", 7, "1024x1024 "):
        assert bad not in sizes, bad


@pytest.mark.parametrize(
    ("model", "options", "images", "path", "fields"),
    [
        ("gen4.5", {}, 0, "text_to_video", {"ratio": "1280:720", "duration": 5}),
        ("gen4.5", {"aspect_ratio": "1:1", "duration": 10, "seed": 7}, 1, "image_to_video",
         {"ratio": "960:960", "duration": 10, "seed": 7}),
        ("veo3.1", {}, 0, "text_to_video", {"ratio": "1280:720", "duration": 8}),
        ("veo3.1", {"resolution": "1080p", "aspect_ratio": "9:16", "duration": 4, "audio": "off"}, 2,
         "image_to_video", {"ratio": "1080:1920", "duration": 4, "audio": False}),
        ("veo3.1_fast", {"duration": 6, "audio": "on"}, 1, "image_to_video",
         {"ratio": "1280:720", "duration": 6, "audio": True}),
    ],
)  # fmt: skip
def test_runway_is_asked_as_each_model_wants_it(
    model: str, options: dict[str, Any], images: int, path: str, fields: dict[str, Any],
    providers: tuple[str, dict[str, str]],
) -> None:  # fmt: skip
    work = Work("x", model, "a cat", 1, options, [PICTURE] * images, "video")
    adapter = provider("runway")
    adapter.check(work)
    ask = adapter.ask(work)
    sent = dict(ask.json)
    image = sent.pop("promptImage", None)
    assert (ask.path, sent) == (f"/v1/{path}", {"model": model, "promptText": "a cat", **fields})
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    both = [{"uri": uri, "position": "first"}, {"uri": uri, "position": "last"}]
    assert image == {0: None, 1: uri, 2: both}[images]
    # And the stand-in, which is strict, takes it.
    key = providers[1]["RUNWAY_API_KEY"]
    answer = HTTP.post(
        providers[1]["RUNWAY_BASE_URL"] + ask.path, json=ask.json, headers=adapter.headers(key)
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("model", "options", "images"),
    [("veo3.1", {"duration": 5}, 0), ("veo3.1", {"seed": 1}, 0), ("veo3.1", {"aspect_ratio": "1:1"}, 0),
     ("veo3", {"duration": 4}, 0), ("gen4.5", {"aspect_ratio": "1:1"}, 0), ("gen4.5", {"duration": 11}, 0),
     ("gen4.5", {}, 2), ("gen4_turbo", {}, 0), ("gen4.5", {"resolution": "1080p"}, 0)],
)  # fmt: skip
def test_what_runway_does_not_have_is_told_to_the_operator(
    model: str, options: dict[str, Any], images: int
) -> None:
    with pytest.raises(NotSetUpError):
        provider("runway").check(Work("x", model, "a", 1, options, [PICTURE] * images, "video"))


@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        ("openai", {"usage": {"input_tokens": 50, "output_tokens": 9}},
         {"input_text": 50, "output_image": 9}),
        ("openai", {"usage": {"input_tokens": 50, "output_tokens": 9,
                              "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
                              "output_tokens_details": {"text_tokens": 2, "image_tokens": 7}}},
         {"input_text": 10, "input_image": 40, "output_text": 2, "output_image": 7}),
        ("openai", {"usage": {"input_tokens": -5, "output_tokens": "9"}}, {}),
        ("openai", {"usage": [1]}, {}), ("openai", {}, {}), ("google", {}, {}),
        ("google", {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1120,
                                      "thoughtsTokenCount": 30}},
         {"input_text": 5, "output_image": 1120, "output_text": 30}),
        ("google", {"usageMetadata": {
            "promptTokenCount": 263, "candidatesTokenCount": 1130,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 5},
                                    {"modality": "IMAGE", "tokenCount": 258}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120},
                                        {"modality": "TEXT", "tokenCount": 10}]}},
         {"input_text": 5, "input_image": 258, "output_image": 1120, "output_text": 10}),
        ("google", {"usageMetadata": {"promptTokenCount": True, "promptTokensDetails": "x"}}, {}),
        ("stability", {}, {}), ("runway", {}, {}),
    ],
)  # fmt: skip
def test_tokens_are_counted_by_kind(name: str, body: Any, found: dict[str, int]) -> None:
    work = Work("x", "m", "p", 1, {}, (), "video" if name == "runway" else "image")
    assert provider(name).tokens(reply(200, body), work) == found


def test_tokens_of_all_the_calls_of_a_job_are_added(ann: GenerateUser, served: Served, prompt: str) -> None:
    ann.post(served, prompt, operation="gen_gemini", n=3)
    assert tokens(ann)["output_image"] == 3 * 1120
    assert tokens(ann)["input_text"] == 3 * (len(prompt) // 4 + 1)


def test_a_refusal_has_its_tokens_too(
    ann: GenerateUser, served: Served, prompt: str, control: Control
) -> None:
    control.fault("gemini", "refusal", match=prompt)
    assert_error(ann.post(served, prompt, operation="gen_gemini"), 422, "refused")
    words = len(prompt) // 4 + 1
    assert (tokens(ann), cost(ann)) == ({"input_text": words}, Decimal(words) * Decimal("1.5") / 1_000_000)
