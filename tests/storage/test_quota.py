"""What a user may put below inputs/: images only, so many and so large, by whatever way they come."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from storage3.exceptions import StorageApiError

from scripts.local.stack import Stack
from supabase import Client
from tests.support.uploads import AS_PNG, PNG, Job, Owner, refusal_of, stored_files

DENIED = ("403", "Unauthorized")


@pytest.fixture
def limits(db: "psycopg.Connection[Any]") -> Iterator[Callable[[int, int], None]]:
    """Sets max_input_files and max_input_bytes for the test."""
    change = "update credits.billing_settings set max_input_files = %s, max_input_bytes = %s"
    before = db.execute("select max_input_files, max_input_bytes from credits.billing_settings").fetchone()
    assert before == (100, 200_000_000)
    yield lambda most, size: (db.execute(change, [most, size]), None)[1]
    db.execute(change, before)


def left(me: Owner) -> list[str]:
    return sorted(entry["name"] for entry in me.files.list(f"{me.account}/inputs", {"limit": 1000}))


def test_only_images_directly_below_inputs(owner: Callable[[], Owner], stack: Stack) -> None:
    me = owner()
    before = stored_files(stack)
    folder = f"{me.account}/inputs"
    for name in ("page.html", "x.svg", "x", "x.png.html", "deeper/x.png", "x.mp4", ".png"):
        assert refusal_of(me.files.upload, f"{folder}/{name}", PNG, AS_PNG) == DENIED, name
    for mime_type in ("text/plain", "video/mp4", "video/webm"):
        as_type: Any = {"content-type": mime_type}
        assert refusal_of(me.files.upload, f"{folder}/x.png", PNG, as_type) == DENIED, mime_type
    html: Any = {"content-type": "text/html"}
    assert refusal_of(me.files.upload, f"{folder}/x.png", PNG, html)[0] in ("400", "415")
    assert stored_files(stack) == before
    for name, mime_type in (("A.JPG", "image/jpeg"), ("b.webp", "image/webp"), ("c.gif", "image/gif")):
        me.files.upload(f"{folder}/{name}", PNG, {"content-type": mime_type})
    me.files.upload(f"{folder}/large.png", bytes(5_000_000), AS_PNG)  # asked for before it is read
    assert left(me) == ["A.JPG", "b.webp", "c.gif", "cat.png", "large.png"]


def test_the_number_is_limited(
    owner: Callable[[], Owner], job: Callable[[Owner], Job], limits: Callable[[int, int], None]
) -> None:
    me, other = owner(), owner()
    mine = job(me)
    mine.charge()
    limits(2, 1000)
    folder = f"{me.account}/inputs"
    me.files.upload(f"{folder}/2.png", PNG, AS_PNG)
    over: Any = {"content-type": "image/png", "upsert": "true"}
    assert refusal_of(me.files.upload, f"{folder}/3.png", PNG, AS_PNG) == DENIED
    assert refusal_of(me.files.upload, f"{folder}/3.png", PNG, over) == DENIED
    assert refusal_of(me.files.update, f"{folder}/3.png", PNG, AS_PNG) == DENIED
    assert refusal_of(me.files.copy, mine.output, f"{folder}/3.png") == DENIED
    assert refusal_of(me.files.move, me.input, f"{folder}/3.png")[0] == "404"
    assert refusal_of(me.files.upload, f"{folder}/3.png", bytes(3_000_000), AS_PNG) == DENIED
    other.files.upload(f"{other.account}/inputs/2.png", PNG, AS_PNG)
    me.files.remove([me.input])
    me.files.copy(mine.output, f"{folder}/3.png")
    assert left(me) == ["2.png", "3.png"]


def test_a_copy_is_by_what_the_original_is(
    owner: Callable[[], Owner], job: Callable[[Owner], Job], service: Client
) -> None:
    me = owner()
    mine = job(me)
    mine.charge()
    over: Any = {"content-type": "video/mp4", "upsert": "true"}
    service.storage.from_("generations").upload(mine.output, b"x", over)
    assert refusal_of(me.files.copy, mine.output, f"{me.account}/inputs/x.png") == DENIED


def test_the_bytes_are_limited(owner: Callable[[], Owner], limits: Callable[[int, int], None]) -> None:
    me = owner()
    folder = f"{me.account}/inputs"
    limits(100, 3_000_000)
    for number, size in enumerate((1_000_000, 2_900_000)):
        with contextlib.suppress(StorageApiError):
            me.files.upload(f"{folder}/{number}.png", bytes(size), AS_PNG)
    assert left(me) == ["0.png", "cat.png"]
    me.files.upload(f"{folder}/2.png", bytes(1_900_000), AS_PNG)
    assert refusal_of(me.files.upload, f"{folder}/3.png", bytes(200_000), AS_PNG) == DENIED


def test_what_came_at_once_is_within_the_limit_after_a_sweep(
    owner: Callable[[], Owner], service: Client, limits: Callable[[int, int], None],
    db: "psycopg.Connection[Any]",
) -> None:  # fmt: skip
    """Storage asks first and stores later, so a policy alone may let some more in where it asks only once."""
    me = owner()
    limits(4, 1_000_000)
    start = threading.Barrier(12)

    def upload(number: int) -> None:
        start.wait()
        with contextlib.suppress(StorageApiError):
            me.files.upload(f"{me.account}/inputs/{number}.png", PNG, AS_PNG)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(left(me)) >= 4
    # One more, past the policies.
    service.storage.from_("generations").upload(f"{me.account}/inputs/more.png", PNG, AS_PNG)
    db.execute("update credits.file_sweep set leased_until = null, swept_at = null, after = null")
    process = "00000000-0000-4000-8000-000000000001"
    while True:
        swept: Any = service.rpc("sweep_files", {"process": process, "batch": 100}).execute().data
        mine = [path for path in swept["paths"] if path.startswith(me.account)]
        if mine:
            service.storage.from_("generations").remove(mine)
        if not swept["more"]:
            break
    assert len(left(me)) == 4
    assert "cat.png" in left(me) and "more.png" not in left(me)
