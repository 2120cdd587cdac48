"""The functions' connections to Supabase: through the environment's proxy, with nobody else's password."""

import asyncio
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import aiohttp
import pytest

from _shared.pool import connections


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, str]]]:
    """A proxy that the environment names; what it was asked for, with the Authorization that came along."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name in ("http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.setenv("NETRC", str(netrc))
        yield seen
        server.shutdown()
        thread.join()


def ask() -> int:
    """GET something of the project; the status."""

    async def get() -> int:
        url = "http://project.invalid/rest/v1/x"
        async with (
            connections(url, aiohttp.ClientTimeout(total=5)) as session,
            session.get(url, headers={"Authorization": "Bearer mine"}) as answer,
        ):
            return answer.status

    return asyncio.run(get())


def test_calls_go_through_the_proxy_with_their_own_token(proxy: list[tuple[str, str]]) -> None:
    assert ask() == 200
    assert proxy == [("http://project.invalid/rest/v1/x", "Bearer mine")]


def test_no_proxy_is_heeded(proxy: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "project.invalid")
    with pytest.raises(aiohttp.ClientConnectorError):
        ask()
    assert proxy == []


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_all_schemes_and_one_without_a_scheme_are_taken(
    proxy: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    address = os.environ["http_proxy"].removeprefix("http://")
    monkeypatch.delenv("http_proxy")
    monkeypatch.setenv(name, scheme + address)
    assert ask() == 200
    assert len(proxy) == 1


def test_a_proxy_of_another_kind_is_passed_over(
    proxy: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", os.environ["http_proxy"].replace("http://", "socks5://"))
    with pytest.raises(aiohttp.ClientConnectorError):
        ask()
