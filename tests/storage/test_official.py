"""What the test suites of storage-js, storage3 and the real server ask for, and get there."""

import json
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from storage3._sync.file_api import SyncBucketProxy
from storage3.types import CreateSignedUploadUrlOptions

from scripts.local.stack import Stack
from supabase import Client
from tests.support.node import run_node
from tests.support.stack import Env
from tests.support.uploads import AS_PNG, FORM_PART, PNG, RawStorage, refusal_of, stored_files

MULTIPART = "multipart/form-data; boundary=b"


def test_storage_js(env: Env, bucket: SyncBucketProxy) -> None:
    settings = {"API_URL": env.api_url, "SECRET_KEY": env.secret_key, "BUCKET": bucket.id}
    seen = run_node(Path(__file__).with_name("official.mjs"), settings)
    path = "testpath/file.txt"
    taken = {"statusCode": "409", "message": "The resource already exists"}
    assert seen["signed"] == [path, True]
    assert seen["first"] == {"path": path, "fullPath": f"{bucket.id}/{path}"}
    assert taken.items() <= seen["twice"].items()
    assert taken.items() <= seen["there"].items()
    assert seen["over"] == ["three", "text/csv", "max-age=7"]
    assert (seen["plain"], seen["fourth"]) == (200, "four")
    assert seen["form"] == ["form", "text/markdown", "max-age=60", {"by": "form"}]
    assert seen["metadata"] == {}
    assert seen["page"] == [False, [], [[path, None]]]
    assert seen["folders"] == [False, [["testpath/", "testpath"]], []]
    assert seen["sorted"] == [
        "aa bb, cc oo, ww xx, yy zz", "zz yy, xx ww, oo cc, bb aa",
        "zz bb, xx ww, cc aa, yy oo", "oo yy, aa cc, ww xx, bb zz",
    ]  # fmt: skip
    assert {"statusCode": "400", "message": "Bucket name invalid"}.items() <= seen["space"].items()
    assert seen["buckets"] == [["c", "b", "a", ""], ["b", "a"], ["a"]]
    assert seen["limit"] is None
    assert seen["updated"] == {"message": "Successfully updated"}
    assert seen["settings"] == [20_000_000, ["image/jpeg"]]
    assert seen["emptied"] == "Empty bucket has been queued. Completion may take up to an hour."


@pytest.mark.parametrize("path", ["foobar.txt", "example/nested.jpg", "/leading/slash.png"])
def test_storage3_signs_uploads(bucket: SyncBucketProxy, path: str) -> None:
    signed = bucket.create_signed_upload_url(path)
    expected = f"{bucket._base_url}object/upload/sign/{bucket.id}/{path.lstrip('/')}"
    assert signed["signed_url"].startswith(expected)
    options: Any = {"content-type": "image/svg+xml", "cache-control": "60", "metadata": {"by": "py"}}
    bucket.upload_to_signed_url(signed["path"], signed["token"], b"<svg/>", options)
    assert bucket.download(path) == b"<svg/>"
    info = bucket.info(path)
    assert (info["content_type"], info["cache_control"]) == ("image/svg+xml", "max-age=60")
    assert info["metadata"] == {"by": "py"}
    assert refusal_of(bucket.upload_to_signed_url, path, signed["token"], b"2") == ("409", "Duplicate")
    over = bucket.create_signed_upload_url(path, CreateSignedUploadUrlOptions(upsert="true"))
    bucket.upload_to_signed_url(path, over["token"], b"2")
    assert bucket.download(path) == b"2"


def test_storage3_lists_with_a_cursor(bucket: SyncBucketProxy) -> None:
    names = [f"{folder}/{name}.txt" for folder in ("b", "a") for name in ("z", "Y", "x")]
    for name in ("m.txt", "A.txt", *names):
        bucket.upload(name, name.encode())
    whole = bucket.list_v2()
    assert [entry.name for entry in whole.objects] == sorted(["m.txt", "A.txt", *names])
    assert (whole.hasNext, whole.folders, whole.nextCursor) == (False, [], None)
    assert [entry.name for entry in bucket.list_v2({"prefix": "b/x"}).objects] == ["b/x.txt"]
    assert bucket.list_v2({"prefix": "%"}).objects == bucket.list_v2({"prefix": "nowhere"}).objects == []

    def paged(**options: Any) -> list[list[str | None]]:
        pages, cursor = [], ""
        while True:
            page = bucket.list_v2(
                cast(Any, {"limit": 2, "with_delimiter": True, "cursor": cursor, **options})
            )
            pages.append([entry.key for entry in page.folders] + [entry.key for entry in page.objects])
            if not page.hasNext:
                return pages
            cursor = page.nextCursor or ""

    assert paged() == [["a", "A.txt"], ["b", "m.txt"]]
    assert paged(sortBy={"column": "name", "order": "desc"}) == [["b", "m.txt"], ["a", "A.txt"]]
    assert paged(sortBy={"column": "created_at"}) == [["m.txt", "A.txt"], ["b", "a"]]
    assert paged(prefix="a/") == [["Y.txt", "x.txt"], ["z.txt"]]
    assert paged(prefix="a/", sortBy={"column": "updated_at", "order": "desc"}) == [
        ["x.txt", "Y.txt"], ["z.txt"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0}, {"limit": "x"}, {"sortBy": {"column": "owner"}}, {"sortBy": 1}, {"with_delimiter": 1},
        {"sortBy": {"column": "name", "order": "up"}}, {"prefix": 1}, {"cursor": "x"}, {"cursor": "W10="},
        {"cursor": "eyJjb2x1bW4iOiAib3duZXIiLCAib3JkZXIiOiAiYXNjIn0="}, {"cursor": "é"}, {"prefix": "\0"},
    ],
)  # fmt: skip
def test_a_list_that_makes_no_sense(raw: RawStorage, bucket: SyncBucketProxy, wrong: dict[str, Any]) -> None:
    status, said = raw("POST", f"/object/list-v2/{bucket.id}", json.dumps(wrong).encode())
    assert (status, said["statusCode"]) == (400, "400")


def form(*fields: tuple[str, str], file_type: str = "text/plain", file: bytes = b"bytes") -> bytes:
    """A form with the file first."""
    options = b'; filename="x"\r\nContent-Type: ' + file_type.encode()
    parts = [FORM_PART % (b"file", options, file + b"\r\n")]
    parts += [FORM_PART % (name.encode(), b"", value.encode() + b"\r\n") for name, value in fields]
    return b"".join(parts) + b"--b--\r\n"


@pytest.mark.parametrize("size", [5, 1_000_000])
def test_fields_after_the_file_count(raw: RawStorage, bucket: SyncBucketProxy, size: int) -> None:
    sent = form(
        ("cacheControl", "60"), ("metadata", '{"a": [1]}'), ("contentType", "image/png"), ("other", "x"),
        file=b"x" * size,
    )  # fmt: skip
    status, said = raw("POST", f"/object/{bucket.id}/x", sent, Content_Type=MULTIPART)
    assert status == 200, said
    info = bucket.info("x")
    assert (info["content_type"], info["cache_control"]) == ("image/png", "max-age=60")
    assert (info["size"], info["metadata"]) == (size, {"a": [1]})


def test_a_form_is_held_to_the_types_of_the_bucket(
    raw: RawStorage, stack: Stack, service: Client, bucket: SyncBucketProxy
) -> None:
    service.storage.update_bucket(bucket.id, {"allowed_mime_types": ["image/*"]})
    before = stored_files(stack)
    for sent in (
        form(),
        form(("contentType", "text/html"), file_type="image/png"),
        form(("contentType", "image"), file_type="image/png"),
        FORM_PART % (b"contentType", b"", b"text/html\r\n") + form(file_type="image/png"),
    ):
        status, said = raw("POST", f"/object/{bucket.id}/x", sent, Content_Type=MULTIPART)
        assert (status, said["statusCode"], said["code"]) == (400, "415", "InvalidMimeType"), sent
    assert stored_files(stack) == before
    assert bucket.list() == []
    sent = form(("contentType", "image/gif"))
    assert raw("POST", f"/object/{bucket.id}/x", sent, Content_Type=MULTIPART)[0] == 200
    assert bucket.info("x")["content_type"] == "image/gif"


@pytest.mark.parametrize(
    "fields",
    [
        [("contentType", "image/png\r\nset-cookie: a=b")], [("contentType", "☃")], [("cacheControl", "1\n2")],
        [("cacheControl", "x" * 2**20), ("metadata", "x")],
    ],
    ids=["a line break", "no latin letter", "a line break in the seconds", "endless"],
)  # fmt: skip
def test_fields_that_no_download_could_carry(
    raw: RawStorage, stack: Stack, bucket: SyncBucketProxy, fields: list[tuple[str, str]]
) -> None:
    before = stored_files(stack)
    status, said = raw("POST", f"/object/{bucket.id}/x", form(*fields), Content_Type=MULTIPART)
    assert (status, said["statusCode"]) in ((400, "400"), (400, "413")), said
    assert stored_files(stack) == before
    assert bucket.list() == []


def test_a_copy_with_metadata_of_its_own(raw: RawStorage, bucket: SyncBucketProxy) -> None:
    bucket.upload("a", b"a", {"metadata": {"of": "a"}, "cache-control": "9", "content-type": "text/css"})
    made = {"bucketId": bucket.id, "sourceKey": "a", "destinationKey": "b"}

    def copied(headers: dict[str, str], **more: Any) -> list[Any]:
        status, said = raw("POST", "/object/copy", json.dumps({**made, **more}).encode(), **headers)
        assert status == 200, said
        info = bucket.info("b")
        bucket.remove(["b"])
        return [info["content_type"], info["cache_control"], info["metadata"]]

    own = {"x_metadata": "eyJvZiI6ICJiIn0="}  # {"of": "b"}
    given = {"mimetype": "text/csv"}
    assert copied(own, metadata=given) == ["text/css", "max-age=9", {"of": "a"}]
    assert copied({}, copyMetadata=False) == ["text/css", "max-age=9", {}]
    assert copied(own, copyMetadata=False, metadata=given) == ["text/csv", "max-age=9", {"of": "b"}]
    for wrong in ({"copyMetadata": "no"}, {"metadata": 1}, {"metadata": {"mimetype": "a\nb"}}):
        sent = json.dumps({**made, "copyMetadata": False, **wrong}).encode()
        assert raw("POST", "/object/copy", sent)[1]["statusCode"] == "400", wrong
    assert [entry["name"] for entry in bucket.list()] == ["a"]


def test_buckets_that_are_refused(raw: RawStorage, bucket: SyncBucketProxy) -> None:
    for name in (" a", "a ", "", ".", "a/b", "x" * 101):
        status, said = raw("POST", "/bucket", json.dumps({"name": name}).encode())
        assert (status, said["code"], said["error"]) == (400, "InvalidBucketName", "Invalid Input"), name
    for changes in ({}, {"name": "a", "id": "a"}, {"public": None}, {"allowed_mime_types": ["nonsense"]}):
        assert raw("PUT", f"/bucket/{bucket.id}", json.dumps(changes).encode())[0] == 400, changes
    for query in ("limit=0", "limit=x", "offset=-1", "sortColumn=owner", "sortOrder=up"):
        status, said = raw("GET", f"/bucket?{query}")
        assert (status, said["code"]) == (400, "InvalidRequest"), query


def test_errors_carry_a_code(raw: RawStorage, env: Env, service: Client, bucket: SyncBucketProxy) -> None:
    bucket.upload("x.png", PNG, AS_PNG)
    service.storage.update_bucket(bucket.id, {"file_size_limit": 100, "allowed_mime_types": ["image/png"]})
    anon = env.publishable_key
    for method, path, sent, key, code in (
        ("GET", f"/object/{bucket.id}/y.png", None, None, "NoSuchKey"),
        ("GET", f"/object/{bucket.id}/x.png", None, anon, "NoSuchKey"),
        ("GET", "/object/nowhere/x.png", None, None, "NoSuchBucket"),
        ("POST", f"/object/{bucket.id}/x.png", b"", None, "KeyAlreadyExists"),
        ("POST", f"/object/{bucket.id}/y.png", b"", anon, "AccessDenied"),
        ("POST", f"/object/{bucket.id}/y.png", b"x" * 101, None, "EntityTooLarge"),
        ("POST", f"/object/{bucket.id}/%23", b"", None, "InvalidKey"),
        ("POST", "/bucket", json.dumps({"name": bucket.id}).encode(), None, "BucketAlreadyExists"),
        ("DELETE", f"/bucket/{bucket.id}", None, None, "ResourceNotEmpty"),
        ("GET", f"/object/sign/{bucket.id}/x.png?token=x", None, None, "InvalidJWT"),
    ):  # fmt: skip
        status, said = raw(method, path, sent, key=key, Content_Type="image/png")
        assert (status, said["code"]) == (400, code), said
        assert said.keys() == {"statusCode", "code", "error", "message"}
    said = raw("POST", f"/object/{bucket.id}/y.png", b"", Content_Type="text/css")[1]
    assert (said["statusCode"], said["code"]) == ("415", "InvalidMimeType")


def test_the_headers_of_a_download(env: Env, bucket: SyncBucketProxy) -> None:
    bucket.upload("x", b"0123456789")
    url, key = f"{env.api_url}/storage/v1/object/{bucket.id}/x", {"apikey": env.secret_key}
    found = httpx.get(url, headers=key)
    assert found.headers["x-robots-tag"] == "none"
    assert httpx.head(url, headers=key).headers["x-robots-tag"] == "none"
    for name, header in (
        (
            "custom_download.svg",
            "attachment; filename=custom_download.svg; filename*=UTF-8''custom_download.svg",
        ),
        ("it's (1)!.txt", "attachment; filename=it's%20(1)!.txt; filename*=UTF-8''it's%20(1)!.txt"),
    ):
        signed = bucket.create_signed_url("x", 60, {"download": name})["signedUrl"] or ""
        assert httpx.get(signed).headers["content-disposition"] == header
    changed = parsedate_to_datetime(found.headers["last-modified"])
    for seconds, status in ((-1, 200), (0, 304), (3600, 304)):
        since = {"If-Modified-Since": format_datetime(changed + timedelta(seconds=seconds), usegmt=True)}
        answer = httpx.get(url, headers={**key, **since})
        assert (answer.status_code, answer.content) == (status, b"" if status == 304 else b"0123456789")
        # The tag counts more than the time.
        assert httpx.get(url, headers={**key, **since, "If-None-Match": '"other"'}).status_code == 200
    for nonsense in ("yesterday", "Thu, 99 Foo 2021 16:00:00 GMT", "Sun, 06 Nov 9999999 08:49:37 GMT"):
        assert httpx.get(url, headers={**key, "If-Modified-Since": nonsense}).status_code == 200


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/render/image/authenticated/b/x.png", "image transformations"),
        ("/upload/resumable", "resumable uploads"),
        ("/s3/b/x.png", "the S3 protocol"),
    ],
)
def test_what_is_not_served_is_named(raw: RawStorage, path: str, what: str) -> None:
    status, said = raw("POST", path, b"")
    assert (status, said["statusCode"]) == (404, "404")
    assert said["message"] == f"Route POST:{path} not found: the local Storage has no {what}"
