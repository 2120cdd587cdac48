"""Nobody reaches the files of another account, nor writes where they may not. Postgres's policies decide."""

import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import psycopg
import pytest
from storage3._sync.file_api import SyncBucketProxy

from scripts.local.stack import Stack
from supabase import Client
from tests.support.stack import Env
from tests.support.uploads import AS_PNG, PNG, Job, Owner, RawStorage, refusal_of, stored_files

OVER: Any = {"content-type": "image/png", "upsert": "true"}


@pytest.fixture(params=["another user", "anon"])
def stranger(request: pytest.FixtureRequest, owner: Callable[[], Owner], env: Env) -> SyncBucketProxy:
    """The bucket as somebody else sees it."""
    if request.param == "anon":
        return env.client().storage.from_("generations")
    return owner().files


def test_strangers_get_nothing(
    owner: Callable[[], Owner], stranger: SyncBucketProxy, job: Callable[[Owner], Job]
) -> None:
    me = owner()
    mine = job(me)
    mine.charge()
    output = mine.output
    for name in (me.input, output):
        assert refusal_of(stranger.download, name) == ("404", "not_found")
        assert refusal_of(stranger.info, name) == ("404", "not_found")
        assert not stranger.exists(name)
        assert refusal_of(stranger.create_signed_url, name, 60) == ("404", "not_found")
        assert stranger.create_signed_urls([name], 60)[0]["signedUrl"] is None
        assert refusal_of(stranger.upload, name, b"x", AS_PNG)[0] in ("403", "409")
        assert refusal_of(stranger.upload, name, b"x", OVER) == ("403", "Unauthorized")
        assert refusal_of(stranger.update, name, b"x", AS_PNG) == ("403", "Unauthorized")
        assert refusal_of(stranger.move, name, f"{me.account}/inputs/moved.png")[0] == "404"
        assert refusal_of(stranger.copy, name, f"{me.account}/inputs/copy.png")[0] == "404"
        assert stranger.remove([name]) == []
    new = f"{me.account}/inputs/planted.png"
    assert refusal_of(stranger.upload, new, b"x", AS_PNG) == ("403", "Unauthorized")
    for folder in ("", me.account, f"{me.account}/inputs", f"{me.account}/{mine.id}"):
        assert me.account not in str(stranger.list(folder))
        assert not any(entry["name"] in ("cat.png", "0.png") for entry in stranger.list(folder))
    assert me.files.download(me.input) == me.files.download(output) == PNG


def test_the_name_of_a_folder_counts_whole(owner: Callable[[], Owner]) -> None:
    me, other = owner(), owner()
    for name in (
        f"{other.account}/inputs/x.png",
        f"{me.account}x/inputs/x.png",
        f"{me.account[:-1]}/inputs/x.png",
        f"{me.account.upper()}/inputs/x.png",
        f" {me.account}/inputs/x.png",
        f"x/{me.account}/inputs/x.png",
        "x.png",
    ):
        assert refusal_of(me.files.upload, name, PNG, AS_PNG) == ("403", "Unauthorized"), name


NOBODY = "c0ffee00-0000-4000-8000-000000000000"  # a job that is not there


@pytest.mark.parametrize("name", ["JOB/0.png", "job/0.png", "0.png", f"{NOBODY}/0.png"])
def test_outputs_are_read_once_they_are_charged(
    owner: Callable[[], Owner], job: Callable[[Owner], Job], service: Client, name: str
) -> None:
    me = owner()
    mine = job(me)
    path = f"{me.account}/{name.replace('JOB', mine.id)}"
    if path != mine.output:
        service.storage.from_("generations").upload(path, PNG, AS_PNG)
    assert refusal_of(me.files.download, path) == ("404", "not_found")
    assert refusal_of(me.files.create_signed_url, path, 60) == ("404", "not_found")
    mine.charge()
    if path == mine.output:
        assert me.files.download(path) == PNG
    else:
        assert refusal_of(me.files.download, path) == ("404", "not_found")


def test_owners_write_below_inputs_only(owner: Callable[[], Owner], job: Callable[[Owner], Job]) -> None:
    me = owner()
    mine = job(me)
    mine.charge()
    output = mine.output
    for name in (
        f"{me.account}/x.png",
        f"{me.account}/{mine.id}/1.png",
        f"{me.account}/inputs",
        f"{me.account}/Inputs/x.png",
        f"{me.account}/inputs2/x.png",
        f"{me.account}/{mine.id}/inputs/x.png",
    ):
        assert refusal_of(me.files.upload, name, PNG, AS_PNG) == ("403", "Unauthorized"), name
    # What was generated: to be read, not to be changed or deleted.
    assert me.files.download(output) == PNG
    assert refusal_of(me.files.upload, output, b"x", OVER) == ("403", "Unauthorized")
    assert refusal_of(me.files.update, output, b"x", AS_PNG) == ("403", "Unauthorized")
    assert refusal_of(me.files.move, output, f"{me.account}/inputs/x.png")[0] == "404"
    assert me.files.remove([output]) == []
    # One's own input: also not to be changed in place, but deleted and uploaded again.
    assert refusal_of(me.files.upload, me.input, b"x", OVER) == ("403", "Unauthorized")
    assert refusal_of(me.files.move, me.input, output)[0] == "404"
    me.files.remove([me.input])
    me.files.upload(me.input, b"again", AS_PNG)
    me.files.copy(output, f"{me.account}/inputs/copy.png")
    assert me.files.download(output) == PNG


def test_a_large_upload_without_the_right_is_refused_before_it_is_sent(
    owner: Callable[[], Owner], env: Env
) -> None:
    me = owner()
    connection = http.client.HTTPConnection(urlsplit(env.api_url).netloc, timeout=10)
    connection.putrequest("POST", f"/storage/v1/object/generations/{me.account}/x.png")
    for name, value in (
        ("apikey", env.publishable_key),
        ("authorization", f"Bearer {me.user.token}"),
        ("content-type", "image/png"),
        ("content-length", "10000000"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    assert json.loads(connection.getresponse().read())["error"] == "Unauthorized"
    connection.close()


@pytest.mark.parametrize("kind", ["expired", "other secret", "none", "unknown role", "owner of the tables"])
def test_forged_tokens_are_refused(
    raw: RawStorage, env: Env, owner: Callable[[], Owner], stack: Stack, kind: str
) -> None:
    me = owner()
    before = stored_files(stack)
    claims = {"role": "service_role", "exp": time.time() + 60}
    secret, algorithm = env.jwt_secret, "HS256"
    match kind:
        case "expired":
            claims["exp"] = time.time() - 60
        case "other secret":
            secret = "x" * 40
        case "none":
            secret, algorithm = "", "none"
        case "unknown role":
            claims["role"] = "nobody_such"
        case _:
            claims["role"] = "supabase_admin"
    token = jwt.encode(claims, secret, algorithm=algorithm)
    wanted = json.dumps({"expiresIn": 60, "paths": [me.input]}).encode()
    for method, path, sent in (
        ("GET", f"/object/generations/{me.input}", None),
        ("POST", f"/object/generations/{me.account}/inputs/x.png", PNG),
        ("POST", "/object/sign/generations", wanted),
        ("DELETE", f"/object/generations/{me.input}", None),
    ):
        status, body = raw(
            method, path, sent, key=env.publishable_key, Authorization=f"Bearer {token}",
            Content_Type="image/png",
        )  # fmt: skip
        assert (status, body["statusCode"], body["error"]) == (400, "403", "Unauthorized"), body
        if "role" in kind or "owner" in kind:
            assert "is not one of this project" in body["message"]
    assert me.files.download(me.input) == PNG
    assert stored_files(stack) == before


def test_only_these_policies_let_anybody_in(db: "psycopg.Connection[Any]") -> None:
    found = db.execute(
        "select policyname::text, cmd, roles::text[] from pg_policies where schemaname = 'storage' order by 1"
    ).fetchall()
    assert found == [
        ("generations_delete_inputs", "DELETE", ["authenticated"]),
        ("generations_read_own", "SELECT", ["authenticated"]),
        ("generations_upload_inputs", "INSERT", ["authenticated"]),
    ]
    assert db.execute(
        "select count(*) from pg_class where relrowsecurity "
        "and oid in ('storage.objects'::regclass, 'storage.buckets'::regclass)"
    ).fetchone() == (2,)


def test_the_tables_are_not_in_the_api(env: Env) -> None:
    for key in (env.publishable_key, env.secret_key):
        answer = httpx.get(
            f"{env.api_url}/rest/v1/objects", headers={"apikey": key, "Accept-Profile": "storage"}
        )
        assert answer.status_code == 406, answer.text


def test_rows_do_not_go_without_their_bytes(
    db: "psycopg.Connection[Any]", owner: Callable[[], Owner]
) -> None:
    """As hosted: SQL deletes no files."""
    me = owner()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="Use the Storage API"):
        db.execute("delete from storage.objects where name = %s", [me.input])
    assert me.files.download(me.input) == PNG
