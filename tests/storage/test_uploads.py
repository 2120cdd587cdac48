"""Names, sizes, types, many at once, and a server that dies: what an upload may leave, and what never."""

import http.client
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from storage3._sync.file_api import SyncBucketProxy
from storage3.exceptions import StorageApiError

from scripts.local.stack import Stack
from supabase import Client
from tests.support.clock import until
from tests.support.stack import Env
from tests.support.uploads import FORM_PART, RawStorage, refusal_of, stored_files

MIB = 1024 * 1024


def test_ordinary_names_come_back_as_they_were(bucket: SyncBucketProxy) -> None:
    names = ["a b.txt", "a+b&c=d.txt", "it's (1)!.txt", "x/y/z.tar.gz", "..hidden", "a..b/c...", "1" * 1024]
    for name in names:
        bucket.upload(name, name.encode())
    assert [bucket.download(name).decode() for name in names] == names
    assert len(bucket.remove(names)) == len(names)


@pytest.mark.parametrize(
    "path",
    [
        "../x", "a/../../x", "%2e%2e/x", "..%2fx", "a%2f..%2f..%2fx", ".", "./x", "a/.", "..%5cx", "a%5cb",
        "%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd", "", "a%00b", "a%0ab", "x" * 1025, "%c3%bc.txt", "%ff",
        "%F0%9F%90%88.png", "%252e%252e/x", "a%23b", "a%7Cb", "%3Cb%3E",
    ],
)  # fmt: skip
def test_other_names_are_refused(stack: Stack, raw: RawStorage, bucket: SyncBucketProxy, path: str) -> None:
    before = stored_files(stack)
    for method in ("POST", "PUT"):
        status, body = raw(method, f"/object/{bucket.id}/{path}", b"x", Content_Type="text/plain")
        assert status in (400, 404), body
        assert body["error"] in ("InvalidKey", "Not Found"), body
    assert raw("GET", f"/object/{bucket.id}/{path}")[0] in (400, 404)
    assert raw("DELETE", f"/object/{bucket.id}/{path}")[0] in (400, 404)
    assert bucket.list() == []
    assert stored_files(stack) == before


def test_a_file_is_never_named_by_a_request(
    stack: Stack, bucket: SyncBucketProxy, db: "psycopg.Connection[Any]"
) -> None:
    """Even a version that an operator wrote into the row opens nothing outside."""
    outside = stack.paths.file("secrets.json")
    bucket.upload("a.txt", b"a")
    kept = bucket.info("a.txt")["version"]
    for version in (f"../../{outside.name}", str(outside), "", "x", None, kept):
        db.execute("update storage.objects set version = %s where bucket_id = %s", [version, bucket.id])
        if version != kept:
            assert refusal_of(bucket.download, "a.txt")[0] == "404"
    bucket.remove(["a.txt"])
    assert outside.exists()


def test_a_bucket_says_how_large_and_of_which_type(service: Client, stack: Stack, raw: RawStorage) -> None:
    name = "test-limits"
    service.storage.create_bucket(
        name, options={"file_size_limit": 1000, "allowed_mime_types": ["image/*", "text/plain"]}
    )
    bucket = service.storage.from_(name)
    before = stored_files(stack)
    try:
        for mime_type in ("image/png", "image/svg+xml", "image/png;a=b", "text/plain"):
            bucket.upload("x", b"x" * 1000, {"content-type": mime_type, "upsert": "true"})
        bucket.remove(["x"])
        for mime_type in (
            "text/html", "application/octet-stream", "image", "video/mp4", "textual/plain",
            "text/plain;charset=UTF-8", "IMAGE/PNG",  # letter for letter, as hosted
        ):  # fmt: skip
            assert refusal_of(bucket.upload, "x", b"x", {"content-type": mime_type}) == (
                "415", "invalid_mime_type",
            )  # fmt: skip
        too_large = ("413", "Payload too large")
        assert refusal_of(bucket.upload, "x", b"x" * 1001, {"content-type": "image/png"}) == too_large
        for body in (b"x" * 1001, b"x" * (2 * MIB)):
            status, said = raw("POST", f"/object/{name}/x", body, Content_Type="image/png")
            assert (status, said["statusCode"], said["error"]) == (400, *too_large)
        # Without a length to look at first, and with one that lies.
        assert _post(stack, f"/object/{name}/x", [b"x" * 600, b"x" * 600])["error"] == too_large[1]
        assert bucket.list() == []
        assert stored_files(stack) == before
    finally:
        service.storage.empty_bucket(name)
        service.storage.delete_bucket(name)


def _post(stack: Stack, path: str, chunks: list[bytes]) -> dict[str, Any]:
    """A chunked upload with the secret key."""

    def stream() -> Iterator[bytes]:
        yield from chunks

    status = stack.status()
    answer = httpx.post(
        f"{status.api_url}/storage/v1{path}", content=stream(), timeout=30,
        headers={"apikey": status.secret_key, "content-type": "image/png"},
    )  # fmt: skip
    said: dict[str, Any] = answer.json()
    return said


def _peak_memory(stack: Stack) -> int:
    """Bytes of memory that the gateway has had at most."""
    pid = stack._daemons()["gateway"].pid()
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_50_mib_are_the_most_and_memory_stays_small(stack: Stack, bucket: SyncBucketProxy) -> None:
    before = _peak_memory(stack)
    block = os.urandom(MIB)
    assert _post(stack, f"/object/{bucket.id}/big.png", [block] * 50)["Key"] == f"{bucket.id}/big.png"
    assert _post(stack, f"/object/{bucket.id}/more.png", [block] * 51)["statusCode"] == "413"
    status, size = stack.status(), 0
    url = f"{status.api_url}/storage/v1/object/{bucket.id}/big.png"
    with httpx.stream("GET", url, headers={"apikey": status.secret_key}) as answer:
        for chunk in answer.iter_bytes(MIB):
            assert chunk == block
            size += len(chunk)
    assert size == 50 * MIB
    assert [entry["name"] for entry in bucket.list()] == ["big.png"]
    assert _peak_memory(stack) - before < 20 * MIB


def test_more_than_allowed_is_refused_before_it_is_sent(stack: Stack, bucket: SyncBucketProxy) -> None:
    status = stack.status()
    connection = http.client.HTTPConnection(urlsplit(status.api_url).netloc, timeout=10)
    connection.putrequest("POST", f"/storage/v1/object/{bucket.id}/x")
    connection.putheader("apikey", status.secret_key)
    connection.putheader("content-length", str(100 * MIB))
    connection.endheaders()
    assert b"exceeded the maximum allowed size" in connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"nothing of the kind",
        FORM_PART % (b"cacheControl", b"", b"60\r\n--b--\r\n"),
        FORM_PART % (b"file", b'; filename="x.txt"', b"cut off"),
        FORM_PART % (b"file", b'; filename="x.txt"', b"cut off\r\n--b"),
        FORM_PART % (b"cacheControl", b"", b"x" * (2 * MIB)),
    ],
    ids=["empty", "no form", "no file", "cut in the file", "cut in the boundary", "endless field"],
)
def test_a_broken_form_leaves_nothing(
    stack: Stack, raw: RawStorage, bucket: SyncBucketProxy, form: bytes
) -> None:
    before = stored_files(stack)
    status, body = raw(
        "POST", f"/object/{bucket.id}/x.txt", form, Content_Type="multipart/form-data; boundary=b"
    )
    assert (status, body["statusCode"]) in ((400, "400"), (400, "413"))
    assert bucket.list() == []
    assert stored_files(stack) == before
    assert raw("POST", f"/object/{bucket.id}/x.txt", b"x", Content_Type="multipart/form-data")[0] == 400


@pytest.mark.parametrize(
    "metadata", [b'"\\u0000"', b'{"a": "\\u0000"}', b'{"a": "\\ud800"}', b"[" * 100_000, b"[]", b"\xff"]
)
def test_metadata_that_cannot_be_kept(
    stack: Stack, raw: RawStorage, bucket: SyncBucketProxy, metadata: bytes
) -> None:
    before = stored_files(stack)
    form = FORM_PART % (b"metadata", b"", metadata + b"\r\n") + FORM_PART % (
        b"file", b'; filename="x"\r\nContent-Type: text/plain', b"x\r\n--b--\r\n",
    )  # fmt: skip
    status, body = raw(
        "POST", f"/object/{bucket.id}/x.txt", form, Content_Type="multipart/form-data; boundary=b"
    )
    if status == 200:  # passed over, as hosted
        assert raw("GET", f"/object/info/{bucket.id}/x.txt")[1]["metadata"] == {}
    else:
        assert (status, body["statusCode"]) == (400, "400")
        assert stored_files(stack) == before


def test_a_row_whose_bytes_somebody_took_away_is_not_found(stack: Stack, bucket: SyncBucketProxy) -> None:
    before = stored_files(stack)
    bucket.upload("x", b"bytes")
    (name,) = stored_files(stack) - before
    (stack.gateway_settings().storage_folder / name).unlink()
    assert refusal_of(bucket.download, "x")[0] == "404"


def test_many_upserts_of_one_name(
    stack: Stack, env: Env, bucket: SyncBucketProxy, db: "psycopg.Connection[Any]"
) -> None:
    """Each is whole or not there: a reader never sees a mixture, and no file is left over."""
    before = stored_files(stack)
    bucket.upload("x", b"0" * 300_000)
    done = threading.Event()

    def read() -> int:
        reads = 0
        with httpx.Client(headers={"apikey": env.secret_key}, timeout=60) as client:
            while not done.is_set():
                answer = client.get(f"{env.api_url}/storage/v1/object/{bucket.id}/x")
                assert answer.status_code == 200, answer.text
                assert len(answer.content) == 300_000
                assert len(set(answer.content)) == 1
                reads += 1
        return reads

    def write(digit: int) -> int:
        body = str(digit % 10).encode() * 300_000
        headers = {"apikey": env.secret_key, "x-upsert": "true", "content-type": "text/plain"}
        url = f"{env.api_url}/storage/v1/object/{bucket.id}/x"
        return httpx.post(url, content=body, headers=headers, timeout=60).status_code

    with ThreadPoolExecutor(18) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            assert set(pool.map(write, range(48))) == {200}
        finally:
            done.set()  # else the readers would go on for ever
        assert all(reader.result() for reader in readers)
    row = db.execute(
        "select count(*), min(version), min(metadata ->> 'eTag') from storage.objects where bucket_id = %s",
        [bucket.id],
    ).fetchone()
    assert row and row[0] == 1
    assert stored_files(stack) - before == {f"objects/{row[1]}"}
    answer = httpx.get(f"{env.api_url}/storage/v1/object/{bucket.id}/x", headers={"apikey": env.secret_key})
    assert answer.headers["etag"] == row[2]


def test_of_many_uploads_of_one_name_one_wins(stack: Stack, bucket: SyncBucketProxy) -> None:
    before = stored_files(stack)

    def upload(text: str) -> str:
        try:
            bucket.upload("x", text.encode())
        except StorageApiError as error:
            assert str(error.status) == "409"
            return ""
        return text

    with ThreadPoolExecutor(12) as pool:
        won = [text for text in pool.map(upload, map(str, range(100, 124))) if text]
    assert len(won) == 1
    assert bucket.download("x").decode() == won[0]
    assert len(stored_files(stack) - before) == 1


def test_a_client_that_goes_away_leaves_nothing(stack: Stack, bucket: SyncBucketProxy) -> None:
    before = stored_files(stack)
    _half_an_upload(stack, bucket.id, before).close()
    until(lambda: stored_files(stack) == before)
    assert bucket.list() == []


def test_connections_that_postgres_ended_are_replaced(
    bucket: SyncBucketProxy, db: "psycopg.Connection[Any]"
) -> None:
    """As when it was restarted: nobody gets an error for it."""
    for text in (b"one", b"two"):
        with ThreadPoolExecutor(8) as several:
            list(several.map(lambda _: bucket.upload("x", text, {"upsert": "true"}), range(16)))  # noqa: B023
        ended = db.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where usename = 'supabase_storage_admin'"
        ).fetchall()
        assert ended
        assert set(ended) == {(True,)}
        assert bucket.create_signed_urls(["x"], 60)[0]["signedURL"]
        assert bucket.download("x") == text


def _half_an_upload(stack: Stack, bucket: str, before: set[str]) -> http.client.HTTPConnection:
    """A connection with 2 of 4 MiB sent, once some of them are on the disk."""
    status = stack.status()
    connection = http.client.HTTPConnection(urlsplit(status.api_url).netloc, timeout=10)
    connection.putrequest("POST", f"/storage/v1/object/{bucket}/half.bin")
    for name, value in (
        ("apikey", status.secret_key),
        ("x-upsert", "true"),
        ("content-length", str(4 * MIB)),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"x" * (2 * MIB))
    root = stack.gateway_settings().storage_folder
    until(
        lambda: any((root / name).stat().st_size >= MIB for name in stored_files(stack) - before), every=0.01
    )
    return connection


@pytest.mark.parametrize("there", [False, True], ids=["new", "over an older one"])
def test_kill_9_during_an_upload(
    stack: Stack, bucket: SyncBucketProxy, db: "psycopg.Connection[Any]", there: bool
) -> None:
    if there:
        bucket.upload("half.bin", b"old")
    before = stored_files(stack)
    connection = _half_an_upload(stack, bucket.id, before)
    pid = stack._daemons()["gateway"].pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    connection.close()
    assert stored_files(stack) > before, "the crash came too late to show anything"
    (stack.gateway_settings().storage_folder / "objects" / "of-nobody").write_bytes(b"x")
    stack.start()

    assert stored_files(stack) == before
    rows = db.execute("select name from storage.objects where bucket_id = %s", [bucket.id]).fetchall()
    assert rows == ([("half.bin",)] if there else [])
    if there:
        assert bucket.download("half.bin") == b"old"
    else:
        assert refusal_of(bucket.download, "half.bin")[0] == "404"
    bucket.upload("half.bin", b"new", {"upsert": "true"})
    assert bucket.download("half.bin") == b"new"
