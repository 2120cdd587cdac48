"""Calls of providers: whether a request may have been carried out decides who pays for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import pytest

from _shared.generation import calls, timeouts
from _shared.generation.providers.openai import OpenAI
from _shared.generation.providers.protocol import UNUSABLE, Lost, Outcome, Work
from _shared.pool import connections
from _shared.settings import Endpoint
from _shared.transport import Transport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = aiohttp.ClientTimeout(sock_connect=2)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return await reader.readexactly(int(length))


def ask(
    serve: Serve,
    *requests: httpx.Request,
    pause: float = 0,
    timeout: aiohttp.ClientTimeout = SHORT,
) -> list[httpx.Response]:
    """The answers of a server, one after the other; requests go to /, whatever host they name."""

    async def run() -> list[httpx.Response]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        session = connections("http://127.0.0.1", timeout)
        answers = []
        async with server, httpx.AsyncClient(transport=Transport(session)) as client:
            for request in requests:
                request.url = request.url.copy_with(port=port)
                answers.append(await client.send(request))
                await asyncio.sleep(pause)
        return answers

    return asyncio.run(run())


async def start(url: str, seconds: float = 10) -> Outcome:
    """What becomes of a job whose provider is at `url`. calls.close() is for the caller."""
    work = Work("image", "gpt-image-2.6-flare", "a cat", 1, {})
    return await calls.start(OpenAI(), Endpoint(url, "key"), work, time.monotonic() + seconds)


async def start_and_close(url: str) -> Outcome:
    outcome = await start(url)
    await calls.close()
    return outcome


def post(url: str = "http://127.0.0.1/") -> httpx.Request:
    return httpx.Request("POST", url, json={"prompt": "a cat"})


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.close()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(OK[:-1])
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"What?\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("serve", [close, cut, reset, babble])
def test_a_request_that_was_sent_may_have_been_carried_out(serve: Serve) -> None:
    with pytest.raises(httpx.ReadError):
        ask(serve, post())


def test_a_request_without_a_connection_was_not_sent() -> None:
    async def run() -> None:
        session = connections("http://127.0.0.1", SHORT)
        async with httpx.AsyncClient(transport=Transport(session)) as client:
            await client.send(post("http://127.0.0.1:1/"))

    with pytest.raises(httpx.ConnectError):
        asyncio.run(run())


def test_a_request_without_tls_where_it_should_be_was_not_sent() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    with pytest.raises(httpx.ConnectError):
        ask(plain, post("https://127.0.0.1/"))


async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(20)
    writer.close()


def test_a_request_that_waits_for_its_connection_was_not_sent() -> None:
    with pytest.raises(httpx.ConnectError):
        ask(mute, post("https://127.0.0.1/"), timeout=aiohttp.ClientTimeout(sock_connect=0.3))


def test_a_request_whose_provider_has_no_address_yet_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.sleep(20)

    monkeypatch.setattr(timeouts, "READY_SECONDS", 0.3)
    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", hang)
    assert asyncio.run(start_and_close("http://provider.invalid")) == calls.DOWN


def test_a_request_that_a_proxy_refused_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def run() -> object:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server:
            return await start_and_close("https://provider.invalid")

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert asyncio.run(run()) == calls.DOWN


@pytest.mark.parametrize("case", ["too long", "deadline", "canceled"])
def test_a_call_that_is_given_up_leaves_no_connection(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2000)
        await reader.read()
        ended.set()
        writer.close()

    async def run() -> object:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        call = asyncio.create_task(start(url, seconds=0.5 if case == "deadline" else 10))
        if case == "canceled":
            await asyncio.sleep(0.3)
            call.cancel()
        async with server:
            await asyncio.wait({call})
            await asyncio.wait_for(ended.wait(), 5)
        await calls.close()
        return None if call.cancelled() else call.result()

    monkeypatch.setattr(calls, "BODY_LIMIT", 1000 if case == "too long" else 10_000_000)
    wanted = {"too long": UNUSABLE, "deadline": Lost(), "canceled": None}
    assert asyncio.run(run()) == wanted[case]


def test_a_connection_that_the_provider_ended_is_not_used_again() -> None:
    connected = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        await read_request(reader)
        writer.write(OK)
        writer.close()

    answers = ask(once, post(), post(), pause=0.1)
    assert [answer.json() for answer in answers] == [{}, {}]
    assert len(connected) == 2


def test_a_connection_is_kept_for_the_next_call() -> None:
    connected = []

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        for _ in range(2):
            await read_request(reader)
            writer.write(OK)
        writer.close()

    ask(stay, post(), post())
    assert len(connected) == 1


@pytest.mark.parametrize("times", [1, 1000, 40_000])
def test_files_arrive_as_they_are(times: int) -> None:
    """Small ones, and large ones, which go out piece by piece."""
    bodies = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(await read_request(reader))
        writer.write(OK)
        writer.close()

    data = bytes(range(256)) * times
    files = [("image[]", ("0.png", data, "image/png"))]
    ask(keep, httpx.Request("POST", "http://127.0.0.1/", data={"model": "m"}, files=files))
    assert data in bodies[0]
    assert b'name="model"\r\n\r\nm\r\n' in bodies[0]


def test_a_packed_body_comes_as_it_is() -> None:
    async def packed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz")
        writer.close()

    async def run() -> bytes:
        server = await asyncio.start_server(packed, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        session = connections(url, aiohttp.ClientTimeout())
        async with server, httpx.AsyncClient(transport=Transport(session)) as client:
            answer = await client.send(post(url), stream=True)
            return b"".join([chunk async for chunk in answer.aiter_raw()])

    assert asyncio.run(run()) == b"zzzz"


def test_a_provider_may_send_long_headers() -> None:
    async def wordy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK.replace(b"\r\n", b"\r\nContent-Security-Policy: " + b"x" * 20_000 + b"\r\n", 1))
        writer.close()

    async def run() -> httpx.Response:
        server = await asyncio.start_server(wordy, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            answer = await calls._client(url).send(post(url))
            await calls.close()
        return answer

    assert len(asyncio.run(run()).headers["content-security-policy"]) == 20_000
