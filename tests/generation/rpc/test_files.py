"""Which files of the bucket go, and what a user may put there: the rules, by the rows of Storage."""

import json
from datetime import timedelta
from typing import Any

import pytest

from _shared.generation import media, orders
from tests.support.clock import DAY, HOUR, SECOND
from tests.support.ledger import Ledger, Refused
from tests.support.studio import Studio

ONE, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
NOBODY = "11111111-1111-4111-8111-111111111111"


def put(
    ledger: Ledger, name: str, age: timedelta = 8 * DAY, size: int = 10, bucket: str = "generations"
) -> str:
    """A file as Storage has it, made so long ago."""
    ledger.rows(
        "insert into storage.objects (bucket_id, name, created_at, metadata) "
        "values (%s, %s, %s, jsonb_build_object('size', %s::bigint))",
        bucket, name, ledger.now() - age, size,
    )  # fmt: skip
    return name


def sweep(ledger: Ledger, process: str = ONE, batch: int = 500) -> list[str]:
    """What a whole sweep names; the files go, as they do through Storage."""
    named: list[str] = []
    for _ in range(100):
        page = ledger.as_service("sweep_files", process=process, batch=batch)
        if page is None:
            break
        named += page["paths"]
        if not page["more"]:
            break
    ledger.rows("set storage.allow_delete_query = 'true'")
    ledger.rows("delete from storage.objects where name = any(%s)", named)
    return named


def account(studio: Studio, user: str) -> str:
    return str(studio.ledger.account(user)["id"])


def test_what_can_be_an_input_is_the_same_in_the_database_and_in_the_functions(own_ledger: Ledger) -> None:
    """The one sees what Storage has noted, before anything is reserved; the other the bytes."""
    user = own_ledger.sign_up()
    folder = f"{own_ledger.account(user)['id']}/inputs"

    def refusal(size: int = 10, mime_type: str = "image/png", times: int = 1) -> str | None:
        name = put(own_ledger, f"{folder}/{size}.{mime_type.replace('/', '.')}", size=size)
        own_ledger.rows(
            "update storage.objects set metadata = metadata || jsonb_build_object('mimetype', %s::text) "
            "where name = %s",
            mime_type, name,
        )  # fmt: skip
        code: str | None = own_ledger.value(
            "select code from credits.inputs_refusal(%s::uuid, %s)", folder.split("/")[0], [name] * times
        )
        own_ledger.rows("set storage.allow_delete_query = 'true'")
        own_ledger.rows("delete from storage.objects where name = %s", name)
        return code

    for mime_type in media.EXTENSIONS:
        assert refusal(mime_type=mime_type) == (None if mime_type in media.INPUTS else "PT400"), mime_type
    assert refusal(size=media.IMAGE_BYTES) is None
    assert refusal(size=media.IMAGE_BYTES + 1) == "PT413"
    # And a mask.
    assert refusal(times=orders.IMAGES + 1) is None
    assert refusal(times=orders.IMAGES + 2) == "PT413"


@pytest.fixture
def shop(own_ledger: Ledger) -> Studio:
    return Studio(own_ledger)


def test_files_of_jobs_that_did_not_succeed_go_after_a_day(shop: Studio) -> None:
    ledger, user = shop.ledger, shop.buyer(1000)
    operation, folder = shop.operation(deadline_seconds=600), account(shop, user)
    ends: dict[str, str] = {}
    for end in ("failed", "refused", "canceled", "succeeded", "under way", "expired"):
        job = shop.dispatched(user, operation)
        ends[end] = f"{folder}/{job}/0.png"
        if end == "succeeded":
            outputs = [{"path": ends[end], "mime_type": "image/png"}]
            shop.service("finish_generation", job, outcome=end, outputs=outputs)
            put(ledger, f"{folder}/{job}/0.webp")
        elif end not in ("under way", "expired"):
            shop.finish(job, end)
        put(ledger, ends[end])
    ledger.pass_time(23 * HOUR)
    assert sweep(ledger) == []
    ledger.rows(
        "update public.generation_jobs set deadline_at = %s where finished_at is null and id::text <> %s",
        ledger.now() + DAY, ends["expired"].split("/")[1],
    )  # fmt: skip
    ledger.rows("select credits.run_maintenance()")  # ends the one whose time is over
    ledger.pass_time(2 * HOUR)
    orphans = [ends[end] for end in ("failed", "refused", "canceled")]
    assert sweep(ledger) == sorted([*orphans, ends["succeeded"].replace("png", "webp")])
    ledger.pass_time(DAY)
    assert sweep(ledger) == [ends["expired"]]
    ledger.pass_time(400 * DAY)
    assert sweep(ledger) == []
    left = {row["name"] for row in ledger.rows("select name from storage.objects")}
    assert left == {ends["succeeded"], ends["under way"]}


def test_a_file_that_was_stored_late_stays_for_a_day(shop: Studio) -> None:
    user = shop.buyer()
    job = shop.dispatched(user, shop.operation())
    shop.finish(job, "failed")
    shop.ledger.pass_time(3 * DAY)
    path = put(shop.ledger, f"{account(shop, user)}/{job}/0.mp4", HOUR)
    assert sweep(shop.ledger) == []
    shop.ledger.pass_time(DAY)
    assert sweep(shop.ledger) == [path]


def test_what_is_not_ours_stays(shop: Studio) -> None:
    ledger, user, other = shop.ledger, shop.buyer(), shop.buyer()
    job, folder = shop.dispatched(user, shop.operation()), account(shop, user)
    shop.finish(job, "failed")
    ledger.pass_time(3 * DAY)
    for name in (
        f"{folder}/{job}/notes.txt",
        f"{folder}/{job}/0.pdf",
        f"{folder}/{job}/deeper/0.png",
        f"{account(shop, other)}/{job}/0.png",
        f"{NOBODY}/{job}/0.png",
        f"{NOBODY}/inputs/0.png",
        f"{folder}/{NOBODY}/0.png",
        f"{folder}/0.png",
        f"{folder}/inputs",
        f"{folder}/mine/0.png",
        "0.png",
        "logo/inputs/0.png",
    ):
        put(ledger, name, 500 * DAY)
    ledger.rows("insert into storage.buckets (id, name) values ('theirs', 'theirs') on conflict do nothing")
    put(ledger, f"{folder}/{job}/0.png", 500 * DAY, bucket="theirs")
    put(ledger, f"{folder}/inputs/0.png", 500 * DAY, bucket="theirs")
    assert sweep(ledger) == []
    assert sweep(ledger, batch=1) == []


def test_inputs_go_when_they_are_old(shop: Studio) -> None:
    ledger, folder = shop.ledger, account(shop, shop.buyer())
    old, older = (
        put(ledger, f"{folder}/inputs/a.png", 7 * DAY),
        put(ledger, f"{folder}/inputs/x/b.png", 90 * DAY),
    )
    put(ledger, f"{folder}/inputs/new.png", 7 * DAY - HOUR)
    assert sweep(ledger) == [old, older]


def test_inputs_that_are_no_images_go(shop: Studio) -> None:
    """A signed upload URL takes what the bucket takes."""
    ledger, folder = shop.ledger, account(shop, shop.buyer())
    for name, mime_type in (("a.png", "image/png"), ("b.png", "video/mp4"), ("c.png", "text/plain")):
        path = put(ledger, f"{folder}/inputs/{name}", HOUR)
        ledger.rows(
            "update storage.objects set metadata = metadata || jsonb_build_object('mimetype', %s::text) "
            "where name = %s", mime_type, path,
        )  # fmt: skip
    assert sweep(ledger) == [f"{folder}/inputs/b.png", f"{folder}/inputs/c.png"]


def test_inputs_beyond_the_limits_go_the_newest_first(shop: Studio) -> None:
    ledger = shop.ledger
    ledger.rows("update credits.billing_settings set max_input_files = 3, max_input_bytes = 100")
    many, large = account(shop, shop.buyer()), account(shop, shop.buyer())
    for number in range(6):
        put(ledger, f"{many}/inputs/{9 - number}.png", timedelta(minutes=60 - number))
    put(ledger, f"{large}/inputs/first.png", 3 * HOUR, 60)
    put(ledger, f"{large}/inputs/more.png", 2 * HOUR, 41)
    put(ledger, f"{large}/inputs/zero.png", HOUR, 0)
    named = sweep(ledger, batch=2)
    assert sorted(named) == sorted(
        [
            *(f"{many}/inputs/{number}.png" for number in (4, 5, 6)),
            f"{large}/inputs/more.png",
            f"{large}/inputs/zero.png",
        ]
    )


def test_one_process_sweeps_at_a_time_and_another_goes_on(shop: Studio) -> None:
    ledger, folder = shop.ledger, account(shop, shop.buyer())
    paths = [put(ledger, f"{folder}/inputs/{number}.png") for number in range(6)]
    page = ledger.as_service("sweep_files", process=ONE, batch=4)
    assert page == {"paths": paths[:4], "more": True}
    assert ledger.as_service("sweep_files", process=OTHER, batch=4) is None
    ledger.pass_time(61 * SECOND)
    page = ledger.as_service("sweep_files", process=OTHER, batch=4)
    assert page == {"paths": paths[4:], "more": False}
    # The next one begins in an hour, and finds what was named and not deleted.
    assert ledger.as_service("sweep_files", process=OTHER) is None
    ledger.pass_time(59 * 60 * SECOND)
    assert ledger.as_service("sweep_files", process=ONE) is None
    ledger.pass_time(61 * SECOND)
    assert ledger.as_service("sweep_files", process=ONE)["paths"] == paths
    assert ledger.as_service("sweep_files", process=None) is None


# -- what a user may upload ----------------------------------------------------------------------------------


def upload(ledger: Ledger, user: str, name: str, **metadata: Any) -> bool:
    """Whether the policies let the user insert the row."""
    stored = {"mimetype": "image/png", "size": 10, **metadata}
    stored = {key: value for key, value in stored.items() if value is not None}
    try:
        ledger.read_as_user(
            user,
            "insert into storage.objects (bucket_id, name, metadata) "
            f"values ('generations', '{name}', '{json.dumps(stored)}') returning true",
        )
    except Refused as refused:
        assert refused.code == "42501", refused
        return False
    return True


NAMES = [
    ("cat.png", True), ("cat.PNG", True), ("a photo.jpeg", True), ("cat.jpg", True), ("cat.webp", True),
    ("cat.gif", True), ("page.html", False), ("page.html.png", True), ("cat.svg", False), ("cat", False),
    ("cat.png.html", False), (".png", False), ("deeper/cat.png", False), ("cat.mp4", False), ("png", False),
    ("cat.png/", False), ("cat.png\n.html", False), ("", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fits"), NAMES)
def test_inputs_are_images_by_name(studio: Studio, name: str, fits: bool) -> None:
    user = studio.buyer()
    assert upload(studio.ledger, user, f"{account(studio, user)}/inputs/{name}") == fits


TYPES = [
    ("image/png", True), ("image/jpeg", True), ("image/webp", True), ("image/gif", True), ("IMAGE/PNG", True),
    ("text/html", False), ("image/svg+xml", False), ("text/plain", False), ("video/mp4", False), ("", False),
    ("image/png; charset=x", False),
    # What a request for a signed upload URL says.
    ("application/json", True), (None, True),
]  # fmt: skip


@pytest.mark.parametrize(("mime_type", "fits"), TYPES)
def test_inputs_are_images_by_type(studio: Studio, mime_type: str | None, fits: bool) -> None:
    user = studio.buyer()
    name = f"{account(studio, user)}/inputs/cat.png"
    assert upload(studio.ledger, user, name, mimetype=mime_type) == fits


def test_files_are_counted(shop: Studio) -> None:
    ledger, user, other = shop.ledger, shop.buyer(), shop.buyer()
    ledger.rows("update credits.billing_settings set max_input_files = 2")
    mine, theirs = account(shop, user), account(shop, other)
    assert [upload(ledger, user, f"{mine}/inputs/{number}.png") for number in range(3)] == [True, True, False]
    assert upload(ledger, other, f"{theirs}/inputs/0.png")
    assert not upload(ledger, other, f"{mine}/inputs/9.png")
    ledger.rows(
        "update storage.objects set name = %s where name = %s", f"{mine}/x.png", f"{mine}/inputs/0.png"
    )
    assert upload(ledger, user, f"{mine}/inputs/9.png")
    ledger.rows("update credits.billing_settings set max_input_files = 0")
    assert not upload(ledger, other, f"{theirs}/inputs/1.png")


def test_bytes_are_counted(shop: Studio) -> None:
    ledger, user = shop.ledger, shop.buyer()
    ledger.rows("update credits.billing_settings set max_input_bytes = 100")
    folder = f"{account(shop, user)}/inputs"
    assert not upload(ledger, user, f"{folder}/a.png", size=101)
    assert upload(ledger, user, f"{folder}/a.png", size=90)
    # As Storage asks beforehand, when it knows what is declared, or nothing.
    assert not upload(ledger, user, f"{folder}/b.png", size=None, contentLength=11)
    assert upload(ledger, user, f"{folder}/b.png", size=10)
    assert not upload(ledger, user, f"{folder}/c.png", size=None)
    assert not upload(ledger, user, f"{folder}/c.png", size=None, contentLength=-50)
