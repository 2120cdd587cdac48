"""What the terms of a price let a generation ask for, and what that adds to it."""

import json
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL

from tests.support.ledger import Refused
from tests.support.studio import Studio

QUALITY = {"values": {"low": 0, "medium": 0, "high": 5, "max": 12.5}, "default": "medium"}
SIZE = {"values": ["1024x1024", "2048x2048"]}
STEPS = {"values": {"4": 0, "8": 2.25}, "default": 4}
SEED = {"min": 0, "max": 99}
INPUTS = {"min": 1, "max": 4, "credits": 1.5}
OPTIONS = {"quality": QUALITY, "size": SIZE, "steps": STEPS, "seed": SEED}


def held(studio: Studio, user: str) -> tuple[int, int]:
    account = studio.ledger.account(user)
    return account["balance"], account["held"]


def quote(studio: Studio, user: str, operation: str, **arguments: Any) -> int:
    found: int = studio.ledger.as_user(user, "quote_credits", operation=operation, **arguments)["credits"]
    return found


@pytest.mark.parametrize(
    ("options", "price"),
    [
        ({}, 10),
        ({"quality": "low"}, 10),
        ({"quality": "high"}, 15),
        ({"quality": "max"}, 23),
        ({"quality": "max", "steps": 8}, 25),
        ({"size": "2048x2048", "seed": 7}, 10),
    ],
)
def test_options_add_to_the_price(studio: Studio, options: dict[str, Any], price: int) -> None:
    user, operation = studio.buyer(), studio.sold(options=OPTIONS)
    assert quote(studio, user, operation, options=options) == price
    job = studio.begin(user, operation, options=options)
    assert (job["credits_held"], held(studio, user)) == (price, (100, price))
    # The provider gets what was paid for, also where nothing was said.
    assert job["options"] == {"quality": "medium", "steps": 4} | options
    studio.service("dispatch_generation", job["id"])
    assert studio.finish(job["id"], "succeeded", 1)["credits_charged"] == price
    assert studio.ledger.broken(user) == []


def test_images_beyond_the_first_add_to_the_price(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.sold(inputs=INPUTS, mask=True)
    # Rounded once, over all of it: 2 * (10 + 3 * 1.5), and 1 * 11.5.
    assert studio.begin(user, operation, 2, inputs=4, mask=True)["credits_held"] == 29
    assert studio.begin(user, operation, inputs=2)["credits_held"] == 12
    assert quote(studio, user, operation, options={}, quantity=2, inputs=4, mask=True) == 29
    assert quote(studio, user, operation, options={}) == quote(studio, user, operation) == 10


BAD: list[tuple[dict[str, Any], str]] = [
    ({"options": {"quality": "ultra"}}, "quality"), ({"options": {"quality": 5}}, "quality"),
    ({"options": {"quality": None}}, "quality"), ({"options": {"quality": ["low"]}}, "quality"),
    ({"options": {"steps": "8"}}, "steps"), ({"options": {"steps": 8.0}}, "steps"),
    ({"options": {"size": "1x1"}}, "size"), ({"options": {"seed": -1}}, "from 0 to 99"),
    ({"options": {"seed": 100}}, "seed"), ({"options": {"seed": 1.5}}, "seed"),
    ({"options": {"seed": "1"}}, "seed"), ({"options": {"seed": True}}, "seed"),
    ({"options": {"seed": 10**30}}, "seed"), ({"options": {"model": "x"}}, "quality, seed, size, steps"),
    ({"options": []}, "options"), ({"options": '"x"'}, "options"),
    ({"inputs": 0}, "needs an image"), ({"inputs": 5}, "at most 4 images"), ({"inputs": -1}, "images"),
    ({"mask": True}, "no mask"), ({"prompt_length": 51}, "50 characters"), ({"quantity": 4}, "at most 3"),
    ({"quantity": 0}, "n is"), ({"quantity": None}, "n is"),
]  # fmt: skip


def test_what_does_not_fit_is_refused_before_the_hold(studio: Studio) -> None:
    user = studio.buyer()
    operation = studio.sold(options=OPTIONS, inputs=INPUTS, max_n=3, max_prompt=50)
    for number, (change, says) in enumerate(BAD):
        if number % 50 == 0:
            user = studio.buyer()
        asked = {"quantity": 1, "inputs": 1, "key": "k", **change}
        refused = studio.begin(user, operation, **asked)
        assert (refused["code"], says in refused["message"]) == ("PT400", True), (change, refused)
        del asked["key"]
        with pytest.raises(Refused) as caught:
            quote(studio, user, operation, **{"options": {}, **asked})
        assert (caught.value.code, caught.value.message) == ("PT400", refused["message"])
    assert held(studio, user) == (100, 0)
    assert studio.ledger.rows("select from public.generation_jobs where operation = %s", operation) == []
    assert studio.ledger.rows("select from credits.usage_logs where operation = %s", operation) == []
    # The key is as good as new.
    assert studio.begin(user, operation, inputs=1, key="k")["status"] == "held"


def test_terms_that_are_not_written_allow_nothing(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.sold()
    for change, says in (
        ({"options": {"quality": "low"}}, "none"), ({"inputs": 1}, "takes no images"),
        ({"mask": True}, "mask"),
    ):  # fmt: skip
        assert says in studio.begin(user, operation, **change)["message"]
    assert studio.begin(user, operation)["terms"]["output"] == "image"


@pytest.mark.parametrize(
    "dear",
    [{"options": {"quality": "max"}}, {"inputs": 4}, {"mask": True}, {"quantity": 2}, {"prompt_length": 9},
     {"files": "{x}"}],
)  # fmt: skip
def test_what_was_begun_cheap_is_not_run_dear(studio: Studio, dear: dict[str, Any]) -> None:
    """The digest is the caller's word: a thief gives that of the dear request with the options of a cheap
    one, and then lets the function, which tells what is in the request, find the job by its key.
    """
    user, operation = studio.buyer(), studio.sold(options=OPTIONS, inputs=INPUTS, mask=True)
    cheap: dict[str, Any] = {"quantity": 1, "inputs": 1, "key": "k"}
    assert studio.begin(user, operation, **cheap)["credits_held"] == 10
    assert studio.begin(user, operation, **{**cheap, **dear})["code"] == "PT409"
    assert studio.begin(user, operation, **cheap)["options"] == {"quality": "medium", "steps": 4}


def test_a_hold_of_the_base_price_does_not_buy_options(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.sold(options=OPTIONS)
    studio.ledger.as_user(user, "hold_credits", operation=operation, idempotency_key="k")
    assert studio.begin(user, operation, key="k", options={"quality": "max"})["code"] == "PT409"


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("hold_at_price", 11), ("open_generation", 10), ("generation_price", 6), ("call_cost", 5)],
)
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_nobody_outside_can_name_a_price(studio: Studio, role: str, function: str, arguments: int) -> None:
    with pytest.raises(Refused) as caught:
        studio.ledger.ask(role, "{}", SQL(f"select credits.{function}({', '.join(['null'] * arguments)})"))
    assert caught.value.code == "42501"


def test_a_repeat_is_answered_by_the_price_that_it_pinned(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.sold(options=OPTIONS)
    asked: dict[str, Any] = {"key": "k", "options": {"quality": "high"}}
    job = studio.begin(user, operation, **asked)
    studio.ledger.rows(
        "update public.pricing_tiers set terms = '{}', credits_per_unit = 99 where operation = %s", operation
    )
    assert studio.begin(user, operation, **asked) == job
    studio.ledger.rows("update public.pricing_tiers set active = false where operation = %s", operation)
    assert studio.begin(user, operation, **asked) == job
    studio.service("dispatch_generation", job["id"])
    assert studio.finish(job["id"], "succeeded", 1)["credits_charged"] == 15


# -- by the second -----------------------------------------------------------------------------------------


DURATION = {"values": [4, 8, 10], "default": 8}


def test_seconds_are_what_is_charged(studio: Studio) -> None:
    user = studio.buyer(1000)
    resolution = {"values": {"720p": 0, "1080p": 0.5}, "default": "720p"}
    operation = studio.sold("8", "second", options={"duration": DURATION, "resolution": resolution})
    for options, price in (
        ({}, 64), ({"duration": 10}, 80), ({"duration": 4}, 32),
        ({"duration": 10, "resolution": "1080p"}, 85),
    ):  # fmt: skip
        assert quote(studio, user, operation, options=options, quantity=2) == 2 * price
        job = studio.begin(user, operation, 2, options=options)
        assert (job["quantity"], job["credits_held"]) == (2, 2 * price)
        studio.service("dispatch_generation", job["id"])
        # One of two came: its seconds, no more.
        done = studio.finish(job["id"], "succeeded", 1)
        assert done["credits_charged"] == price
        (logged,) = studio.usage(job["id"])
        assert (logged["status"], logged["units"]) == ("partial", options.get("duration", 8))
    assert studio.ledger.broken(user) == []
    # A second by itself is sold to who counts them: consume_credits.
    assert quote(studio, user, operation, quantity=3) == 24


def test_more_seconds_than_may_be_sold(studio: Studio) -> None:
    operation = studio.sold("1", "second", options={"duration": {"min": 1, "max": 86400, "default": 1}})
    most = studio.ledger.value("select credits.max_quantity()")
    refused = studio.begin(studio.buyer(10**9), operation, 2, options={"duration": most})
    assert (refused["code"], str(most) in refused["message"]) == ("PT400", True)


def test_seconds_of_which_the_price_does_not_tell(studio: Studio) -> None:
    user, operation = studio.buyer(), studio.sold("8", "second")
    assert "no option duration" in studio.begin(user, operation)["message"]
    assert held(studio, user) == (100, 0)


# -- what a call cost ---------------------------------------------------------------------------------------


def costs(studio: Studio, operation: str, **prices: str) -> None:
    names = ", ".join(prices)
    studio.ledger.rows(
        f"insert into credits.provider_costs (provider, model, {names}) "
        f"values (%s, 'm', {', '.join(['%s'] * len(prices))})", operation, *prices.values(),
    )  # fmt: skip


TOKENS = {"input_text": 100, "input_image": 2000, "output_image": 4000}
BY_TOKENS = {"input_text": "5", "input_image": "8", "output_image": "30", "cost_per_output": "0.5"}


@pytest.mark.parametrize(
    ("prices", "outcome", "outputs", "told", "cost"),
    [
        (BY_TOKENS, "succeeded", 2, {"tokens": TOKENS}, "0.1365"),
        (BY_TOKENS, "refused", 0, {"tokens": {"input_text": 1000}}, "0.005"),
        (BY_TOKENS, "succeeded", 2, {}, "1.0"),
        (BY_TOKENS, "succeeded", 1, {}, "0.5"),
        (BY_TOKENS, "succeeded", 2, {"tokens": {}}, "1.0"),
        # A kind without a price: the sum is not known.
        (BY_TOKENS, "succeeded", 2, {"tokens": {**TOKENS, "output_text": 1}}, "1.0"),
        (BY_TOKENS, "succeeded", 2, {"tokens": {**TOKENS, "output_text": 0}}, "0.1365"),
        (BY_TOKENS, "succeeded", 2, {"tokens": {"input_text": -5, "other": 7}}, "1.0"),
        (BY_TOKENS, "succeeded", 2, {"tokens": [1]}, "1.0"),
        (BY_TOKENS, "succeeded", 2, {"tokens": TOKENS, "provider_cost": "0.7"}, "0.7"),
        (BY_TOKENS, "failed", 0, {}, "0"),
        (BY_TOKENS, "failed", 0, {"error": {"code": "not_stored"}}, "1.0"),
        ({"cost_per_second": "0.12"}, "succeeded", 2, {}, "1.92"),
        ({"cost_per_second": "0.12"}, "succeeded", 1, {}, "0.96"),
    ],
)
def test_a_call_costs_what_its_provider_takes(
    studio: Studio, prices: dict[str, str], outcome: str, outputs: int, told: dict[str, Any], cost: str
) -> None:
    user, operation = studio.buyer(), studio.sold(options={"duration": DURATION})
    costs(studio, operation, **prices)
    job = studio.dispatched(user, operation, 2)
    studio.finish(job, outcome, outputs, **told)
    (logged,) = studio.usage(job)
    assert logged["provider_cost"] == Decimal(cost)


@pytest.mark.parametrize("column", ["cost_per_output", "cost_per_second", "input_text", "output_image"])
@pytest.mark.parametrize("value", ["-0.1", "NaN", "Infinity", "1000001"])
def test_costs_are_numbers_in_a_range(studio: Studio, column: str, value: str) -> None:
    with pytest.raises(Refused):
        costs(studio, f"op_{uuid.uuid4().hex}", **{column: value})


def test_failures_are_counted(studio: Studio) -> None:
    operation = studio.sold()
    for code in ("model_gone", "model_gone", "provider_quota"):
        job = studio.dispatched(studio.buyer(), operation)
        studio.finish(job, "failed", error={"status": 502, "code": code, "message": "."})
    studio.finish(studio.dispatched(studio.buyer(), operation), "succeeded", 1)
    found = studio.ledger.rows(
        "select failure, jobs from credits.generation_failures where operation = %s order by 1", operation
    )
    assert [tuple(row.values()) for row in found] == [("model_gone", 2), ("provider_quota", 1)]


# -- what a DBA may write ----------------------------------------------------------------------------------


WRONG: list[tuple[Any, str]] = [
    ([], "object"), ({"price": 1}, "price"), ({"output": "sound"}, "output"), ({"output": 1}, "output"),
    ({"max_n": 0}, "max_n"), ({"max_n": 1.5}, "max_n"), ({"max_n": "1"}, "max_n"), ({"max_n": None}, "max_n"),
    ({"max_prompt": 0}, "max_prompt"), ({"deadline_seconds": 4}, "deadline_seconds"),
    ({"deadline_seconds": "60"}, "deadline_seconds"), ({"charge_refusals": "yes"}, "charge_refusals"),
    ({"mask": 1}, "mask"),
    ({"mask": True}, "inputs.max"), ({"inputs": 4}, "inputs"), ({"inputs": {}}, "inputs.max"),
    ({"inputs": {"max": 17}}, "inputs.max"), ({"inputs": {"max": "x"}}, "inputs.max"),
    ({"inputs": {"min": 2, "max": 1}}, "inputs.min"), ({"inputs": {"min": -1, "max": 1}}, "inputs.min"),
    ({"inputs": {"max": 1, "credits": -1}}, "inputs.credits"), ({"inputs": {"max": 1, "cost": 1}}, "inputs"),
    ({"options": []}, "options"),
    ({"options": {"Size": SEED}}, "Size"), ({"options": {"a": ["x"]}}, "options.a"),
    ({"options": {"a": {}}}, "options.a"), ({"options": {"a": {"values": "x"}}}, "options.a"),
    ({"options": {"a": {"values": []}}}, "options.a"), ({"options": {"a": {"values": {}}}}, "options.a"),
    ({"options": {"a": {"values": [1.5]}}}, "options.a"),
    ({"options": {"a": {"values": [True]}}}, "options.a"),
    ({"options": {"a": {"values": ["x"], "min": 1}}}, "options.a"),
    ({"options": {"a": {"min": 1}}}, "options.a"),
    ({"options": {"a": {"min": "1", "max": 2}}}, "options.a"),
    ({"options": {"a": {"min": 3, "max": 2}}}, "options.a"),
    ({"options": {"a": {"values": {"x": -1}, "default": "x"}}}, "options.a"),
    ({"options": {"a": {"values": {"x": "1"}, "default": "x"}}}, "options.a"),
    ({"options": {"a": {"values": {"x": 0.00001}, "default": "x"}}}, "options.a"),
    ({"options": {"a": {"values": {"x": 1000001}, "default": "x"}}}, "options.a"),
    ({"options": {"a": {"values": {"x": 0, "y": 1}}}}, "default"),
    ({"options": {"a": {"values": {"x": 0, "y": 1}, "default": "y"}}}, "default"),
    ({"options": {"a": {"values": {"x": 0, "y": 1}, "default": "z"}}}, "default"),
    ({"options": {"a": {"values": {"4": 0, "8": 1}, "default": "4"}}}, "default"),
    ({"options": {"a": {"min": 0, "max": 9, "default": 10}}}, "default"),
    ({"metadata": {"x": "y" * 9000}}, "8 KiB"),
]  # fmt: skip


@pytest.mark.parametrize(("terms", "says"), WRONG)
def test_bad_terms_are_refused_with_a_sentence(studio: Studio, terms: Any, says: str) -> None:
    name = f"op_{uuid.uuid4().hex}"
    with pytest.raises(Refused) as caught:
        studio.ledger.rows(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit, terms) "
            "values (%s, 'x', 'm', 1, %s)", name, json.dumps(terms),
        )  # fmt: skip
    assert (caught.value.code, says in caught.value.message) == ("PT400", True), caught.value
    assert caught.value.message.endswith(".")
    good = studio.sold()
    with pytest.raises(Refused):
        studio.ledger.rows(
            "update public.pricing_tiers set terms = %s where operation = %s", json.dumps(terms), good
        )


@pytest.mark.parametrize(
    "duration",
    [{"values": [4, 8]}, {"values": ["4"], "default": "4"}, {"min": 0, "max": 9, "default": 5},
     {"values": {"4": 0, "x": 0}, "default": 4}, {"values": [0, 4], "default": 4},
     {"min": 1, "max": 86401, "default": 5}],
)  # fmt: skip
def test_seconds_must_be_counted_in_whole_ones(studio: Studio, duration: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="whole seconds"):
        studio.sold("1", "second", options={"duration": duration})


def test_terms_of_earlier_times_do_not_pass_unseen(studio: Studio) -> None:
    with pytest.raises(Refused, match="belong_in_terms"):
        studio.ledger.rows(
            "insert into public.pricing_tiers (operation, provider, model, credits_per_unit, metadata) "
            "values ('old_terms', 'x', 'm', 1, '{\"deadline_seconds\": 60}')"
        )


# -- any terms, any request --------------------------------------------------------------------------------


ADDS = st.decimals(0, 20, places=2).map(float)
WORD = st.text("abcxyz", min_size=1, max_size=4)


@st.composite
def priced(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.dictionaries(WORD, ADDS, min_size=1, max_size=4))
    first = next(iter(values))
    return {"values": {**values, first: 0}, "default": first}


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A price with terms, and a request that may or may not fit them."""
    unit = draw(st.sampled_from(["image", "second"]))
    options = draw(st.dictionaries(st.sampled_from(["quality", "size", "style"]), priced(), max_size=3))
    if unit == "second" or draw(st.booleans()):
        options["duration"] = {"min": 1, "max": 10, "default": draw(st.integers(1, 10))}
    most = draw(st.integers(0, 4))
    inputs = {"min": draw(st.integers(0, most)), "max": most, "credits": draw(ADDS)}
    asked: dict[str, Any] = {
        name: draw(st.sampled_from([*spec["values"], "nothing"]))
        for name, spec in options.items() if name != "duration" and draw(st.booleans())
    }  # fmt: skip
    if draw(st.booleans()):
        asked["duration"] = draw(st.integers(0, 11))
    return {
        "price": draw(st.decimals("0.01", 30, places=2)), "unit": unit,
        "terms": {"options": options, "inputs": inputs},
        "quantity": draw(st.integers(1, 4)), "options": asked, "inputs": draw(st.integers(0, 5)),
        "delivered": draw(st.integers(1, 4)),
    }  # fmt: skip


def expected(case: dict[str, Any]) -> tuple[Decimal, int] | None:
    """(price of a unit, units an output) by the terms; None for a request that does not fit them."""
    options, inputs = case["terms"]["options"], case["terms"]["inputs"]
    if not inputs["min"] <= case["inputs"] <= inputs["max"]:
        return None
    unit = Decimal(str(case["price"])) + (case["inputs"] - inputs["min"]) * Decimal(str(inputs["credits"]))
    for name, value in case["options"].items():
        spec = options.get(name)
        if spec is None or (name == "duration" and not 1 <= value <= 10):
            return None
        if name != "duration":
            if value not in spec["values"]:
                return None
            unit += Decimal(str(spec["values"][value]))
    seconds = case["options"].get("duration", options.get("duration", {}).get("default"))
    return unit, (seconds if case["unit"] == "second" else 1)


@given(cases())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quote_equals_hold_and_covers_the_charge(studio: Studio, case: dict[str, Any]) -> None:
    user = studio.buyer(100_000)
    operation = studio.sold(str(case["price"]), case["unit"], **case["terms"])
    asked = {"options": case["options"], "inputs": case["inputs"]}
    price = expected(case)
    if price is None:
        assert studio.begin(user, operation, case["quantity"], **asked)["code"] == "PT400"
        with pytest.raises(Refused):
            quote(studio, user, operation, quantity=case["quantity"], **asked)
        assert held(studio, user) == (100_000, 0)
        return
    whole = math.ceil(price[0] * price[1] * case["quantity"])
    assert quote(studio, user, operation, quantity=case["quantity"], **asked) == whole
    job = studio.begin(user, operation, case["quantity"], **asked)
    assert (job["credits_held"], held(studio, user)[1]) == (whole, whole)
    delivered = min(case["delivered"], case["quantity"])
    studio.service("dispatch_generation", job["id"])
    charged = studio.finish(job["id"], "succeeded", delivered)["credits_charged"]
    assert charged == math.ceil(price[0] * price[1] * delivered) <= whole
    assert held(studio, user) == (100_000 - charged, 0)
    assert studio.ledger.broken(user) == []
