"""What an app does with files, through the official clients and plain HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httpx
from storage3._sync.file_api import SyncBucketProxy

from supabase import Client
from tests.support.node import run_node
from tests.support.stack import Env
from tests.support.uploads import AS_PNG, PNG, Owner, RawStorage, refusal_of


def test_supabase_py_from_upload_to_remove(owner: Callable[[], Owner]) -> None:
    me = owner()
    assert me.files.download(me.input) == PNG
    info = me.files.info(me.input)
    assert (info["size"], info["content_type"], info["cache_control"]) == (
        len(PNG), "image/png", "max-age=3600",
    )  # fmt: skip
    assert me.files.exists(me.input)
    assert httpx.get(me.files.create_signed_url(me.input, 60)["signedUrl"] or "").content == PNG
    many = me.files.create_signed_urls([me.input, f"{me.account}/absent.png"], 60)
    assert httpx.get(many[0]["signedUrl"] or "").content == PNG
    assert (many[1]["signedUrl"], many[1]["error"] is None) == (None, False)
    assert [(entry["name"], entry["id"]) for entry in me.files.list(me.account)] == [("inputs", None)]
    [entry] = me.files.list(f"{me.account}/inputs")
    assert (entry["name"], entry["metadata"]["mimetype"]) == ("cat.png", "image/png")
    assert refusal_of(me.files.upload, me.input, PNG, AS_PNG) == ("409", "Duplicate")
    assert [gone["name"] for gone in me.files.remove([me.input, "absent"])] == [me.input]
    assert not me.files.exists(me.input)
    assert refusal_of(me.files.download, me.input) == ("404", "not_found")


def test_supabase_js_from_upload_to_remove(env: Env, owner: Callable[[], Owner]) -> None:
    me = owner()
    me.files.remove([me.input])
    settings = {
        "API_URL": env.api_url, "PUBLISHABLE_KEY": env.publishable_key,
        "EMAIL": me.user.email, "PASSWORD": me.user.password, "ACCOUNT": me.account,
    }  # fmt: skip
    seen = run_node(Path(__file__).with_name("client.mjs"), settings)
    names = [f"{me.account}/inputs/a photo.png", f"{me.account}/inputs/form.webp"]
    assert seen == {
        "path": names[0],
        "info": {"size": 300_000, "contentType": "image/png", "cacheControl": "max-age=3600", "by": "js"},
        "form": {"size": 300_000, "contentType": "image/webp", "cacheControl": "max-age=60"},
        "downloaded": True,
        "fetched": True,
        "many": [200, None, True],
        "listed": ["form.webp", "a photo.png"],
        "again": "409",
        "outside": "403",
        "page": "403",
        "text": "403",
        "foreign": True,
        "existed": True,
        "removed": names,
        "after": False,
    }


def test_upsert_and_update_replace(bucket: SyncBucketProxy) -> None:
    bucket.upload("note.txt", b"one")
    bucket.upload("note.txt", b"two", {"upsert": "true", "cache-control": "7"})
    assert bucket.download("note.txt") == b"two"
    bucket.update("note.txt", b"", {"content-type": "text/html"})
    assert bucket.download("note.txt") == b""
    assert bucket.info("note.txt")["content_type"] == "text/html"
    assert len(bucket.list()) == 1


def test_move_and_copy(bucket: SyncBucketProxy) -> None:
    bucket.upload("a.txt", b"a", {"metadata": {"kept": True}})
    bucket.upload("b.txt", b"b")
    bucket.copy("a.txt", "sub/c.txt")
    bucket.move("a.txt", "sub/d.txt")
    assert {name: bucket.download(name) for name in ("b.txt", "sub/c.txt", "sub/d.txt")} == {
        "b.txt": b"b", "sub/c.txt": b"a", "sub/d.txt": b"a",
    }  # fmt: skip
    assert bucket.info("sub/c.txt")["metadata"] == {"kept": True}
    assert refusal_of(bucket.download, "a.txt")[0] == "404"
    assert refusal_of(bucket.move, "sub/d.txt", "b.txt") == ("409", "Duplicate")
    assert refusal_of(bucket.copy, "sub/d.txt", "b.txt") == ("409", "Duplicate")
    assert refusal_of(bucket.move, "absent", "e.txt")[0] == "404"
    assert refusal_of(bucket.copy, "absent", "e.txt")[0] == "404"
    assert refusal_of(bucket.copy, "b.txt", "../e.txt") == ("400", "InvalidKey")
    bucket.remove(["sub/c.txt"])  # the copy's bytes are its own
    assert bucket.download("sub/d.txt") == b"a"


def test_list_pages_sorts_and_searches(bucket: SyncBucketProxy, raw: RawStorage) -> None:
    for name in ("x/b1.txt", "x/a.txt", "x/B2.txt", "x/deep/er.txt", "y/z.txt", "x_z.txt"):
        bucket.upload(name, name.encode())

    def names(path: str = "x", **options: Any) -> list[str]:
        return [entry["name"] for entry in bucket.list(path, cast(Any, options))]

    assert names("") == ["x", "y", "x_z.txt"]
    assert names() == names("x/") == ["deep", "B2.txt", "a.txt", "b1.txt"]
    assert names(sortBy={"column": "name", "order": "desc"}) == ["deep", "b1.txt", "a.txt", "B2.txt"]
    assert names(sortBy={"column": "created_at"}) == ["deep", "b1.txt", "a.txt", "B2.txt"]
    assert names(limit=2) + names(limit=2, offset=2) == names()
    assert names(search="b") == ["B2.txt", "b1.txt"]
    assert names(search="%") == names("x", search="_") == []
    assert names("nowhere") == []
    for wrong in (
        {"limit": 0},
        {"limit": "x"},
        {"offset": -1},
        {"sortBy": {"column": "owner"}},
        {"prefix": 1},
    ):
        status, body = raw("POST", f"/object/list/{bucket.id}", json.dumps({"prefix": "", **wrong}).encode())
        assert (status, body["statusCode"]) == (400, "400"), wrong


def test_a_range_and_the_headers_alone(env: Env, bucket: SyncBucketProxy) -> None:
    bucket.upload("digits.txt", b"0123456789", {"cache-control": "9"})
    url = f"{env.api_url}/storage/v1/object/{bucket.id}/digits.txt"
    key = {"apikey": env.secret_key}
    for header, start, end in (("0-3", 0, 3), ("4-", 4, 9), ("-2", 8, 9), ("8-99", 8, 9)):
        part = httpx.get(url, headers={**key, "Range": f"bytes={header}"})
        assert (part.status_code, part.content) == (206, b"0123456789"[start : end + 1])
        assert part.headers["content-range"] == f"bytes {start}-{end}/10"
    assert httpx.get(url, headers={**key, "Range": "bytes=10-"}).status_code == 416
    head = httpx.head(url, headers=key)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")
    assert head.headers["cache-control"] == "max-age=9"
    assert httpx.get(url, headers={**key, "If-None-Match": head.headers["etag"]}).status_code == 304
    named = httpx.get(url, headers=key, params={"download": "my file.txt"})
    assert "filename=my%20file.txt" in named.headers["content-disposition"]
    # A page that somebody uploaded must not run as a page of this origin.
    bucket.upload("page.html", b"<script>", {"content-type": "text/html; charset=utf-8"})
    page = httpx.get(url.replace("digits.txt", "page.html"), headers=key)
    assert page.headers["content-type"].startswith("text/plain")


def test_buckets_are_the_service_roles(service: Client, owner: Callable[[], Owner], env: Env) -> None:
    name = "test-public"
    made = service.storage.create_bucket(name, options={"public": True, "file_size_limit": 10})
    try:
        assert made == {"name": name}
        assert refusal_of(service.storage.create_bucket, name) == ("409", "Duplicate")
        seen = service.storage.get_bucket(name)
        assert (seen.public, seen.file_size_limit, seen.allowed_mime_types) == (True, 10, None)
        service.storage.from_(name).upload("hello.txt", b"hello")
        url = service.storage.from_(name).get_public_url("hello.txt")
        assert httpx.get(url).content == b"hello"  # without any key

        me = owner().user.client.storage
        assert me.list_buckets() == []
        assert refusal_of(me.get_bucket, name)[0] == "404"
        assert refusal_of(me.create_bucket, "test-mine") == ("403", "Unauthorized")
        assert refusal_of(me.update_bucket, name, {"public": False})[0] == "404"
        assert refusal_of(me.empty_bucket, name)[0] == "404"
        assert refusal_of(me.delete_bucket, name)[0] == "404"
        assert refusal_of(me.from_(name).upload, "mine.txt", b"") == ("403", "Unauthorized")
        assert me.from_(name).remove(["hello.txt"]) == []

        service.storage.update_bucket(name, {"public": False, "allowed_mime_types": ["text/plain"]})
        assert httpx.get(url).json()["error"] == "Bucket not found"
        assert refusal_of(service.storage.delete_bucket, name) == ("409", "ResourceNotEmpty")
        assert service.storage.from_(name).download("hello.txt") == b"hello"
    finally:
        service.storage.empty_bucket(name)
        service.storage.delete_bucket(name)
    assert refusal_of(service.storage.get_bucket, name)[0] == "404"
    assert refusal_of(service.storage.create_bucket, "a/b") == ("400", "Invalid Input")


def test_what_is_not_there_says_so(raw: RawStorage, env: Env, bucket: SyncBucketProxy) -> None:
    status, body = raw("GET", f"/render/image/authenticated/{bucket.id}/x.png")
    assert (status, body["statusCode"]) == (404, "404")
    assert "not found" in body["message"]
    assert raw("PATCH", "/bucket")[0] == 404
    assert raw("GET", "/object/nowhere/x.png")[1]["error"] == "Bucket not found"
    assert raw("POST", "/object/nowhere/x.png", b"x")[1]["error"] == "Bucket not found"
    assert httpx.get(f"{env.api_url}/storage/v1/object/{bucket.id}/x.png").status_code == 401
