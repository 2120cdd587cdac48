"""A signed upload URL lets whoever has it write one object until it expires, and nothing else."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from storage3._sync.file_api import SyncBucketProxy
from storage3.types import CreateSignedUploadUrlOptions

from scripts.local.stack import Stack
from supabase import Client
from tests.support.stack import Env
from tests.support.uploads import (
    AS_PNG,
    PNG,
    Job,
    Owner,
    get_signed,
    refusal_of,
    signed_url_token,
    stored_files,
)

OVER = CreateSignedUploadUrlOptions(upsert="true")


def put(env: Env, path: str, token: str, body: bytes = PNG, **headers: str) -> httpx.Response:
    """An upload through a token, with no key at all."""
    return httpx.put(
        f"{env.api_url}/storage/v1/object/upload/sign/{path}", params={"token": token}, content=body,
        headers={"content-type": "image/png", **headers}, timeout=60,
    )  # fmt: skip


def test_whoever_has_it_uploads_for_the_signer(
    env: Env, owner: Callable[[], Owner], db: "psycopg.Connection[Any]"
) -> None:
    me = owner()
    path = f"{me.account}/inputs/dog.png"
    signed = me.files.create_signed_upload_url(path)
    assert not me.files.exists(path)  # nothing is there for having been signed
    answer = httpx.put(signed["signedUrl"], content=PNG, headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()) == (200, {"Key": f"generations/{path}"})
    assert me.files.download(path) == PNG
    assert db.execute(
        "select owner::text, owner_id from storage.objects where name = %s", [path]
    ).fetchone() == (me.user.id, me.user.id)
    claims = jwt.decode(signed["token"], env.jwt_secret, algorithms=["HS256"])
    assert claims.pop("exp") - claims.pop("iat") == 7200
    assert claims == {
        "url": f"generations/{path}", "scope": "upload", "upsert": False, "owner": me.user.id,
    }  # fmt: skip


def test_only_who_may_upload_there_signs(
    env: Env, owner: Callable[[], Owner], job: Callable[[Owner], Job], service: Client
) -> None:
    me, other = owner(), owner()
    output = job(me).output
    denied = ("403", "Unauthorized")
    for name in (f"{me.account}/inputs/x.png", me.input, output, f"{me.account}/x.png", "x.png"):
        for options in (None, OVER):
            if name != me.input or options:
                assert refusal_of(other.files.create_signed_upload_url, name, options)[0] in ("403", "409"), (
                    name
                )
            anon = env.client().storage.from_("generations")
            assert refusal_of(anon.create_signed_upload_url, name, options) == denied, name
    assert refusal_of(other.files.create_signed_upload_url, f"{me.account}/inputs/x.png") == denied
    # The owner, where an upload would be refused.
    for name in (f"{me.account}/x.png", f"{me.account}/inputs", "x.png"):
        assert refusal_of(me.files.create_signed_upload_url, name) == denied, name
    assert refusal_of(me.files.create_signed_upload_url, me.input) == ("409", "Duplicate")
    for name in (me.input, output):  # there already, and not to be replaced
        assert refusal_of(me.files.create_signed_upload_url, name, OVER) == denied
    nowhere = service.storage.from_("nowhere")
    assert refusal_of(nowhere.create_signed_upload_url, "x.png") == ("404", "InvalidRequest")
    assert refusal_of(me.files.create_signed_upload_url, f"{me.account}/inputs/#.png") == (
        "400",
        "InvalidKey",
    )
    assert me.files.download(me.input) == PNG


def test_another_path_another_time_another_token(env: Env, stack: Stack, owner: Callable[[], Owner]) -> None:
    me = owner()
    path, beside = f"generations/{me.account}/inputs/dog.png", f"generations/{me.account}/inputs/dog2.png"
    before = stored_files(stack)
    good = me.files.create_signed_upload_url(path.removeprefix("generations/"))["token"]
    claims = jwt.decode(good, env.jwt_secret, algorithms=["HS256"])

    def signed(secret: str | None = None, **changes: Any) -> str:
        made = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode(made, secret or env.jwt_secret, algorithm="HS256")

    for wrong, code in (
        ("", "InvalidJWT"),
        ("x.y.z", "InvalidJWT"),
        (signed(exp=time.time() - 10), "InvalidJWT"),
        ("x" + good, "InvalidJWT"),
        (signed(secret="x" * 40), "InvalidJWT"),
        (jwt.encode(claims, "", algorithm="none"), "InvalidJWT"),
        (signed(scope="download"), "InvalidSignature"),
        (signed(scope=None, upsert=None), "InvalidSignature"),
        (signed(url=beside), "InvalidSignature"),
        (signed_url_token(env, path), "InvalidSignature"),  # for a download
        (env.service_role_key, "InvalidSignature"),
    ):
        answer = put(env, path, wrong, apikey=env.publishable_key)
        assert (answer.status_code, answer.json()["code"]) == (400, code), wrong
    answer = put(env, path, me.user.token)
    assert (answer.status_code, answer.json()["code"][:7]) == (400, "Invalid")
    for elsewhere in (beside, f"{path}/", path.upper(), f"generations/{me.input}", path.split("/", 1)[1]):
        assert put(env, elsewhere, good).json()["code"] == "InvalidSignature", elsewhere
    url = f"{env.api_url}/storage/v1/object/upload/sign/generations"
    assert httpx.put(url, params={"token": good}, content=PNG).json()["code"] == "AccessDenied"
    assert stored_files(stack) == before
    # It opens nothing else, and is nobody's access token.
    assert put(env, path, good).status_code == 200
    assert get_signed(env, path, good).json()["code"] == "InvalidSignature"
    as_bearer = {"apikey": env.publishable_key, "Authorization": f"Bearer {good}"}
    for kind in ("object", "object/info"):
        assert httpx.get(f"{env.api_url}/storage/v1/{kind}/{path}", headers=as_bearer).status_code == 400
    listed = httpx.post(
        f"{env.api_url}/storage/v1/object/list-v2/generations", json={}, headers=as_bearer
    ).json()
    assert listed["objects"] == listed["folders"] == []


def test_only_a_token_that_says_so_replaces(env: Env, bucket: SyncBucketProxy, stack: Stack) -> None:
    path = f"{bucket.id}/x.png"
    plain, over = (bucket.create_signed_upload_url("x.png", how)["token"] for how in (None, OVER))
    assert put(env, path, plain, b"one").status_code == 200
    before = stored_files(stack)
    for body in (b"two", b"2" * 300_000):
        again = put(env, path, plain, body, **{"x-upsert": "true"})
        assert (again.status_code, again.json()["code"]) == (400, "KeyAlreadyExists")
    assert bucket.download("x.png") == b"one"
    assert stored_files(stack) == before
    for body in (b"three", b"3" * 300_000):
        assert put(env, path, over, body).status_code == 200
        assert bucket.download("x.png") == body
    assert len(stored_files(stack)) == len(before)


def test_the_limits_of_the_bucket_hold(
    env: Env, service: Client, bucket: SyncBucketProxy, stack: Stack
) -> None:
    token = bucket.create_signed_upload_url("x", OVER)["token"]
    service.storage.update_bucket(bucket.id, {"file_size_limit": 1000, "allowed_mime_types": ["image/png"]})
    before = stored_files(stack)
    for body, mime_type, code in (
        (b"x" * 1001, "image/png", "EntityTooLarge"),
        (b"x" * 2_000_000, "image/png", "EntityTooLarge"),
        (b"x", "text/html", "InvalidMimeType"),
    ):
        answer = put(env, f"{bucket.id}/x", token, body, **{"content-type": mime_type})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert stored_files(stack) == before
    assert put(env, f"{bucket.id}/x", token, b"x" * 1000).status_code == 200


@pytest.mark.parametrize("how", [None, OVER], ids=["once", "over and over"])
def test_many_at_once_never_mix(
    env: Env, bucket: SyncBucketProxy, stack: Stack, how: CreateSignedUploadUrlOptions | None
) -> None:
    before = stored_files(stack)
    token = bucket.create_signed_upload_url("x", how)["token"]
    with ThreadPoolExecutor(8) as pool:
        bodies = [bytes([65 + i]) * 300_000 for i in range(16)]
        answers = list(pool.map(lambda body: put(env, f"{bucket.id}/x", token, body).status_code, bodies))
    assert answers.count(200) == (16 if how else 1)
    assert set(answers) <= {200, 400}
    found = bucket.download("x")
    assert found in [body for body, status in zip(bodies, answers, strict=True) if status == 200]
    assert len(stored_files(stack) - before) == 1


def test_lists_with_a_cursor_show_what_the_policies_show(env: Env, owner: Callable[[], Owner]) -> None:
    me, other = owner(), owner()
    for number in range(3):
        me.files.upload(f"{me.account}/inputs/{number}.png", PNG, AS_PNG)

    def names(bucket: SyncBucketProxy, **options: Any) -> list[str]:
        page = bucket.list_v2(options)  # type: ignore[arg-type]
        return [entry.name for entry in page.folders] + [entry.name for entry in page.objects]

    mine = [f"{me.account}/inputs/{name}.png" for name in ("0", "1", "2", "cat")]
    assert names(me.files) == mine
    assert names(me.files, with_delimiter=True) == [f"{me.account}/"]
    assert names(other.files) == [other.input]
    assert names(env.client().storage.from_("generations")) == []
    for stranger in (other.files, env.client().storage.from_("generations")):
        for prefix in (me.account, f"{me.account}/", f"{me.account}/inputs/"):
            assert names(stranger, prefix=prefix) == names(stranger, prefix=prefix, with_delimiter=True) == []
    # A cursor of the owner's shows a stranger nothing that the policies do not.
    cursor = me.files.list_v2({"limit": 2}).nextCursor or ""
    assert names(me.files, cursor=cursor) == mine[2:]
    assert set(names(other.files, cursor=cursor)) <= {other.input}
