"""Links of providers: what is fetched, and what is not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from _shared.generation import fetch

HOSTS = (".cloudfront.net", "cdn.example.com")
PUBLIC = "93.184.215.14"


class Stream(httpx.AsyncByteStream):
    """Ten bytes that come one by one."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for digit in b"0123456789":
            yield bytes([digit])


def get(link: str, stand_in: str | None = None, limit: int = 1000) -> bytes:
    return asyncio.run(fetch.fetch(link, HOSTS, stand_in, limit))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """The requests that were sent; each is answered with 10 bytes, by `answer` if it is set."""
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, stream=Stream())

    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(handle))

    monkeypatch.setattr(fetch, "_client", client)
    return requests


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets what names resolve to, one answer after the other; returns the names that were asked for."""

    def make(*answers: list[str]) -> list[str]:
        asked: list[str] = []

        async def resolve(host: str) -> list[str]:
            asked.append(host)
            return answers[min(len(asked), len(answers)) - 1]

        monkeypatch.setattr(fetch, "resolve", resolve)
        return asked

    return make


@pytest.mark.parametrize(
    "link",
    [
        "http://d1.cloudfront.net/a.mp4",  # not https
        "https://d1.cloudfront.net:8443/a.mp4",
        "https://user@d1.cloudfront.net/a.mp4",
        "https://cloudfront.net/a.mp4",
        "https://evilcloudfront.net/a.mp4",
        "https://d1.cloudfront.net.evil.example/a.mp4",
        "https://evil.example/?d1.cloudfront.net",
        "https://evil.example/#@d1.cloudfront.net",
        "https://evil.example\\@d1.cloudfront.net/",
        "https://sub.cdn.example.com/",
        "https://d1.cloudfront.net./a",
        "https://127.0.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/",
        "https://127.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
        "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/",
        "https://metadata.google.internal/", "https://localhost/", "https://[64:ff9b::7f00:1]/",
        "file:///etc/passwd", "ftp://d1.cloudfront.net/", "gopher://d1.cloudfront.net/",
        "//d1.cloudfront.net/",
        "/etc/passwd", "", "https://", "https:///a", "d1.cloudfront.net", "\0", "https://d1.cloud\0front.net/",
        "https://ⓛocalhost/", "http://127.0.0.1:9/other-port",
    ],
)  # fmt: skip
def test_links_that_are_not_followed(
    link: str, seen: list[httpx.Request], names: Callable[..., list[str]]
) -> None:
    asked = names([PUBLIC])
    with pytest.raises(fetch.ForbiddenLinkError):
        get(link, stand_in="http://127.0.0.1:8/base")
    assert seen == [] and asked == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.254", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "192.0.2.1", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.215.14", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "64:ff9b::7f00:1",
        "64:ff9b::5db8:d70e", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_gone_to(
    address: str, seen: list[httpx.Request], names: Callable[..., list[str]]
) -> None:
    assert not fetch.is_public(address)
    for answer in ([address], [PUBLIC, address]):
        names(answer)
        with pytest.raises(fetch.ForbiddenLinkError):
            get("https://d1.cloudfront.net/a.mp4")
    assert seen == []


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_the_checked_address_is_the_one_that_is_used(
    address: str, seen: list[httpx.Request], names: Callable[..., list[str]]
) -> None:
    """A name server that changes its mind: the second answer would be this machine."""
    asked = names([address], ["127.0.0.1"])
    assert get("https://D1.cloudfront.net/a.mp4?_jwt=x") == b"0123456789"
    assert asked == ["d1.cloudfront.net"]
    (request,) = seen
    assert request.url.host == address
    assert request.headers["host"] == "d1.cloudfront.net"
    assert request.extensions["sni_hostname"] == "d1.cloudfront.net"
    assert request.url.query == b"_jwt=x"


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str) -> list[str]:
        raise socket.gaierror(-2, "no such name")

    monkeypatch.setattr(fetch, "resolve", resolve)
    with pytest.raises(fetch.FetchError):
        get("https://d1.cloudfront.net/")


def test_no_more_than_the_limit(seen: list[httpx.Request], names: Callable[..., list[str]]) -> None:
    names([PUBLIC])
    assert len(get("https://cdn.example.com/a", limit=10)) == 10
    with pytest.raises(fetch.ForbiddenLinkError):
        get("https://cdn.example.com/a", limit=9)


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, fetch.ForbiddenLinkError), (302, fetch.ForbiddenLinkError), (307, fetch.ForbiddenLinkError),
     (404, fetch.ForbiddenLinkError), (503, fetch.FetchError)],
)  # fmt: skip
def test_only_200_counts(
    status: int, error: type[Exception], names: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names([PUBLIC])
    sent: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(status, headers={"Location": "https://127.0.0.1/"}, content=b"x")

    monkeypatch.setattr(fetch, "_client", lambda: httpx.AsyncClient(transport=httpx.MockTransport(handle)))
    with pytest.raises(error):
        get("https://d1.cloudfront.net/")
    assert len(sent) == 1


def test_the_real_client_follows_nothing_and_asks_no_proxy() -> None:
    fetch._client.cache_clear()
    client = fetch._client()
    assert not client.follow_redirects
    assert not client.trust_env
    fetch._client.cache_clear()
