"""Calls of Postgres and Storage by Supabase's clients, to a server that answers what the test says."""

import asyncio
import gzip
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from _shared import database
from _shared.errors import FunctionError
from _shared.generation import storage
from _shared.generation.media import IMAGE_BYTES, INLINE_BYTES, Media
from _shared.payments.ingest import is_unreadable
from _shared.tokens import User

SECRET, PUBLISHABLE = "sb_secret_1", "sb_publishable_1"
ANN = User("ann", None, "token-of-ann")
PATH = "8f3c5c0e-1111-4222-8333-444455556666/inputs/cat.png"
IMAGE = Media(bytes(range(256)) * 4, "image/png", 1, 1)


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        return self.headers["authorization"].removeprefix("Bearer ")


@dataclass
class Project:
    """What a test knows of the server."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    answers_once: bool = False  # and then ends the connection


Answer = Callable[[Asked], Awaitable[bytes]]
Call = Callable[[], Awaitable[Any]]


def answer(status: int, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(given: bytes) -> Answer:
    async def said(_: Asked) -> bytes:
        return given

    return said


@asynccontextmanager
async def project(said: Answer) -> AsyncIterator[Project]:
    """A server for both clients, which end their connections before it does."""
    known = Project()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                known.asked.append(Asked(method, path, headers, body))
                given = await said(known.asked[-1])
                writer.write(given)
                await writer.drain()
                if known.answers_once:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        known.ended += 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    known.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    patched = pytest.MonkeyPatch()
    patched.setenv("SUPABASE_URL", known.url)
    async with server:
        try:
            yield known
        finally:
            await close()
            patched.undo()


async def close() -> None:
    await database.close()
    await storage.close()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_PUBLISHABLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPABASE_SECRET_KEYS", json.dumps({"default": SECRET}))
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEYS", json.dumps({"default": PUBLISHABLE}))


def asked_once(said: bytes, call: Call) -> tuple[Any, list[Asked]]:
    """What a call gives or raises when that is the answer, and what was asked for."""

    async def run() -> tuple[Any, list[Asked]]:
        async with project(always(said)) as known:
            try:
                return await call(), known.asked
            except FunctionError as error:
                return error, known.asked

    return asyncio.run(run())


def failed(said: bytes, call: Call) -> FunctionError:
    """What a call raises when that is the answer. It is asked for once."""
    error, asked = asked_once(said, call)
    assert isinstance(error, FunctionError), error
    assert len(asked) == 1
    return error


async def as_user() -> Any:
    return await database.user_rpc(ANN, "mine", n=1)


async def as_service() -> Any:
    return await database.service_rpc("ours", n=1)


async def as_it_is() -> Any:
    return await database.service_rpc_raw("ours", b"{}")


async def upload() -> Any:
    return await storage.upload(PATH, IMAGE)


async def sign() -> Any:
    return await storage.sign([PATH])


async def remove() -> Any:
    return await storage.remove([PATH])


async def download() -> Any:
    return await storage.download(ANN, PATH)


async def read_text() -> Any:
    return await storage.read_text(PATH)


RPCS = (as_user, as_service, as_it_is)
WRITES = (upload, sign, remove)
READS = (download, read_text)


# -- whose call it is ----------------------------------------------------------------------------------


def test_no_user_gets_what_another_asked_for() -> None:
    """Forty users and the service at once, in whatever order the answers come; all share the connections."""

    async def whose(asked: Asked) -> bytes:
        await asyncio.sleep(next(pauses))
        said = {"token": asked.token, "key": asked.headers["apikey"], "cookie": asked.headers.get("cookie")}
        return answer(200, json.dumps(said).encode(), f"Set-Cookie: whose={asked.token}; Path=/")

    pauses = itertools.cycle([0.007, 0, 0.003, 0.01, 0.001])
    users = [User(str(n), None, f"token-{n}") for n in range(40)]

    async def check(number: int) -> None:
        user = users[number]
        theirs = {"token": user.token, "key": PUBLISHABLE, "cookie": None}
        ours = {"token": SECRET, "key": SECRET, "cookie": None}
        for _ in range(5):
            assert await database.user_rpc(user, "mine") == theirs
            assert json.loads(await storage.download(user, PATH)) == theirs
            assert await database.service_rpc("ours") == ours
            assert await database.service_rpc_raw("ours", b"{}") == ours
            assert json.loads(await storage.read_text(PATH) or "") == ours

    async def run() -> None:
        async with project(whose) as known:
            await asyncio.gather(*map(check, range(len(users))))
            opened = known.connections
            assert opened <= 2 * len(users)
            await check(0)
            assert known.connections == opened

    asyncio.run(run())


def test_what_a_call_says() -> None:
    """The schema, the arguments, and who asks: nothing of the service's comes with a user's call."""
    made, (asked,) = asked_once(answer(200, b'{"id": 1}'), as_user)
    assert made == {"id": 1}
    assert (asked.method, asked.path, json.loads(asked.body)) == ("POST", "/rest/v1/rpc/mine", {"n": 1})
    assert (asked.headers["content-type"], asked.headers["content-profile"]) == ("application/json", "public")
    assert SECRET not in str(asked)
    body = b'{"n": 1.10, "n":  2e2, "s": "\\u00e4"}'
    _, (asked,) = asked_once(answer(200, b"{}"), lambda: database.service_rpc_raw("ours", body))
    assert (asked.path, asked.headers["content-type"]) == ("/rest/v1/rpc/ours", "application/json")
    assert asked.body == body


@pytest.mark.parametrize("call", [*RPCS, *WRITES, *READS])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(call: Call, status: int) -> None:
    """It would take the key to wherever it leads."""

    async def run() -> None:
        async with project(always(answer(200, b"{}"))) as elsewhere:
            away = answer(status, b"", f"Location: {elsewhere.url}/x")
            async with project(always(away)) as known:
                with pytest.raises(FunctionError) as caught:
                    await call()
                assert caught.value.status in (404, 500, 503)
                assert (len(known.asked), elsewhere.asked) == (1, [])

    asyncio.run(run())


# -- what comes back -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "given"),
    [
        (b'{"a": [1, null]}', {"a": [1, None]}),
        (b"[]", []),
        (b"null", None),
        (b"true", True),
        (b"12", 12),
        (b'"cus_1"', "cus_1"),
    ],
)
@pytest.mark.parametrize("call", RPCS)
def test_what_an_rpc_gives(call: Call, said: bytes, given: Any) -> None:
    made, asked = asked_once(answer(200, said), call)
    assert (made, len(asked)) == (given, 1)


@pytest.mark.parametrize("call", RPCS)
def test_an_rpc_that_gives_nothing(call: Call) -> None:
    assert not asked_once(b"HTTP/1.1 204 No Content\r\n\r\n", call)[0]


@pytest.mark.parametrize("call", RPCS)
@pytest.mark.parametrize("said", [b"<html>", b'{"a": 1', b'"cus_1', b"\xff"])
def test_an_answer_that_is_no_json(call: Call, said: bytes) -> None:
    error = failed(answer(200, said), call)
    assert (error.status, error.code) == (500, "PT500")
    assert "SUPABASE_URL" in error.message
    assert said.decode(errors="replace") not in error.message


@pytest.mark.parametrize("status", [400, 402, 404, 409, 412, 422, 429, 500, 503, 504])
@pytest.mark.parametrize("call", RPCS)
def test_the_databases_words(call: Call, status: int) -> None:
    """Whatever the code: the status is that of the answer."""
    details = json.dumps({"retry_after": 17})
    said = {"code": "22P02", "message": "Not so.", "details": details, "hint": "So."}
    error = failed(answer(status, json.dumps(said).encode()), call)
    assert (error.status, error.code, error.message) == (status, "22P02", "Not so.")
    assert (error.details, error.hint) == (details, "So.")
    assert error.headers == ({"Retry-After": "17"} if status in (429, 503) else None)


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (429, {"code": "PT429", "message": "Wait.", "details": None, "hint": None}, (429, "PT429", "5")),
        (404, {"code": None, "message": "None.", "details": ["x"]}, (404, "PT404", None)),
        # Postgres died under the statement.
        (400, {"code": "", "message": "", "details": None, "hint": None}, (503, "PT503", "5")),
        (404, {"error": "requested path is invalid"}, (500, "PT500", None)),
        (400, None, (500, "PT500", None)),
        (502, None, (503, "PT503", "5")),
        (520, {"message": 1}, (503, "PT503", "5")),
        (503, [], (503, "PT503", "5")),
    ],
)
@pytest.mark.parametrize("call", RPCS)
def test_other_errors(call: Call, status: int, body: Any, wanted: tuple[int, str, str | None]) -> None:
    error = failed(answer(status, b"<html>" if body is None else json.dumps(body).encode()), call)
    assert (error.status, error.code, (error.headers or {}).get("Retry-After")) == wanted


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused(status: int) -> None:
    """A user's token is the user's fault, the secret key is not."""
    said = answer(status, b'{"code": "42501", "message": "permission denied"}')
    assert failed(said, as_user).status == status
    for call in (as_service, as_it_is):
        error = failed(said, call)
        assert (error.status, "secret key (42501)" in error.message) == (500, True)


@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
def test_what_cannot_be_said(value: Any) -> None:
    async def call() -> Any:
        return await database.service_rpc("ours", x={"y": value})

    error, asked = asked_once(answer(200, b"{}"), call)
    assert (error.status, is_unreadable(error), asked) == (400, True, [])


# -- the network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*RPCS, upload, sign])
@pytest.mark.parametrize(
    "said", [b"", answer(200, b"{}{}")[:-2], b"What?\r\n\r\n"], ids=["end", "cut", "babble"]
)
def test_a_connection_that_breaks(call: Call, said: bytes) -> None:
    """Nothing is asked for twice: it may have been done."""

    async def run() -> None:
        async with project(always(said)) as known:
            known.answers_once = True
            with pytest.raises(FunctionError) as caught:
                await call()
            assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})
            assert len(known.asked) == 1

    asyncio.run(run())


@pytest.mark.parametrize("call", [*RPCS, *WRITES, *READS])
def test_a_project_that_is_away(call: Call, closed_port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", closed_port)

    async def run() -> None:
        with pytest.raises(FunctionError) as caught:
            await call()
        await close()
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "5"})

    asyncio.run(run())


@pytest.mark.parametrize("call", [*RPCS, *WRITES, *READS])
def test_a_project_that_does_not_answer_in_time(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(_: Asked) -> bytes:
        await asyncio.sleep(20)
        return b""

    async def run() -> None:
        async with project(hang) as known:
            with pytest.raises(FunctionError) as caught:
                await asyncio.wait_for(call(), 5)
            assert (caught.value.status, len(known.asked)) == (503, 1)

    assert (database.TIMEOUT.total, storage.TIMEOUT.total) == (15, 60)
    for module in (database, storage):
        monkeypatch.setattr(module, "TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    asyncio.run(run())


def test_closing_ends_the_connections_and_the_next_call_opens_one() -> None:
    async def run() -> None:
        async with project(always(answer(200, b"[]"))) as known:
            for round_ in (1, 2):
                await asyncio.gather(as_user(), as_service(), as_it_is(), remove())
                await close()
                await asyncio.sleep(0.05)
                assert known.connections == known.ended == 4 * round_

    asyncio.run(run())


def test_closing_what_was_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_URL", raising=False)
    asyncio.run(close())


# -- files ---------------------------------------------------------------------------------------------


def test_a_file_is_stored_as_it_is() -> None:
    _, (asked,) = asked_once(answer(200, b'{"Id": "1", "Key": "generations/x"}'), upload)
    assert (asked.method, asked.path) == ("POST", f"/storage/v1/object/generations/{PATH}")
    assert (asked.token, asked.headers["x-upsert"]) == (SECRET, "true")
    assert b"\r\nContent-Type: image/png\r\n\r\n" + IMAGE.data + b"\r\n" in asked.body


def test_links_come_in_the_order_of_the_paths() -> None:
    said = [
        {"error": None, "path": path, "signedURL": f"/object/sign/generations/{path}?token=e.{path}"}
        for path in ("b/2", "a/1")
    ]

    async def run() -> None:
        async with project(always(answer(200, json.dumps(said).encode()))) as known:
            urls = await storage.sign(["a/1", "b/2"])
            base = f"{known.url}/storage/v1/object/sign/generations"
            assert urls == [f"{base}/a/1?token=e.a/1", f"{base}/b/2?token=e.b/2"]
            assert json.loads(known.asked[0].body)["paths"] == ["a/1", "b/2"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "said",
    [
        b"<html>",
        b"{}",
        b"null",
        b"[]",
        b"[1]",
        json.dumps([{"error": "Either the object does not exist", "path": PATH, "signedURL": None}]).encode(),
    ],
)
def test_a_file_without_a_link(said: bytes) -> None:
    assert failed(answer(200, said), sign).status == 503


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("status", [201, 400, 401, 404, 409, 413, 429, 500, 503, 544])
def test_a_storage_that_refuses(call: Call, status: int) -> None:
    said = b'{"statusCode": "404", "error": "not_found", "message": "Object not found"}'
    error = failed(answer(status, said), call)
    assert (error.status, error.message) == (503, f"The storage answered with status {status}.")


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize(
    ("status", "wanted"), [(400, 404), (401, 404), (403, 404), (404, 404), (429, 503), (500, 503), (544, 503)]
)
def test_a_file_that_cannot_be_read(call: Call, status: int, wanted: int) -> None:
    """The status counts, not the one in the words."""
    said = b'{"statusCode": "418", "error": "x", "message": "hush"}'
    error = failed(answer(status, said), call)
    assert error.status == wanted
    assert "hush" not in error.message


def test_a_refused_read_keeps_the_connection() -> None:
    async def run() -> None:
        async with project(always(answer(400, b" " * 500_000))) as known:
            for _ in range(3):
                with pytest.raises(FunctionError):
                    await download()
            assert known.connections == 1

    asyncio.run(run())


@pytest.mark.parametrize(("call", "limit"), [(download, IMAGE_BYTES), (read_text, INLINE_BYTES)])
def test_a_file_is_read_up_to_its_limit(call: Call, limit: int) -> None:
    """One that claims to be longer is not read to its end, which would never come."""
    whole, _ = asked_once(answer(200, b"x" * limit, kind="text/plain"), call)
    assert len(whole) == limit
    endless = answer(200, b"x" * (limit + 1)).replace(b"%d\r\n" % (limit + 1), b"999999999\r\n", 1)
    error, _ = asked_once(endless, call)
    assert error is None if call is read_text else error.status == 413


@pytest.mark.parametrize("call", READS)
def test_a_packed_file_is_not_unpacked(call: Call) -> None:
    said, (asked,) = asked_once(answer(200, gzip.compress(b"x"), "Content-Encoding: gzip"), call)
    assert (said.status, asked.headers["accept-encoding"]) == (503, "identity")
