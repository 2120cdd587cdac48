"""Connections that send no whole request: they end by themselves, and what is answered early is heard."""

import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import app as shared
from _shared.app import function, read_body
from _shared.errors import FunctionError
from scripts.local.stack import ports
from tests.support.pages import block
from tests.support.stack import ROOT

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n"
PAGE = "functions/README.md"
LIMIT = 8 * 1024 * 1024
PATIENCE = 0.5


async def handler(request: Request) -> JSONResponse:
    if request.headers.get("x-early"):
        raise FunctionError(401, "Sign in.")
    return JSONResponse({"bytes": len(await read_body(request, LIMIT))})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A function that reads a body, with little patience."""
    patched = pytest.MonkeyPatch()
    patched.setattr(shared, "BODY_SECONDS", PATIENCE)
    config = uvicorn.Config(function(handler), port=ports.ephemeral(), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield config.port
    finally:
        server.should_exit = True
        thread.join(10)
        patched.undo()


def ended(connection: socket.socket) -> tuple[bytes, float]:
    """All that comes until the server closes the connection, and after how many seconds that was."""
    began, said = time.monotonic(), b""
    connection.settimeout(10)
    while piece := connection.recv(65536):
        said += piece
    return said, time.monotonic() - began


def opened(port: int, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(sent)
    return connection


@pytest.mark.parametrize("begun", [b"", b"{"])
def test_half_open_posts_end(port: int, begun: bytes) -> None:
    connections = [opened(port, HEAD % (100, b"") + begun) for _ in range(200)]
    # Meanwhile the function serves others.
    other = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    other.request("POST", "/", b"x" * 10)
    assert json.loads(other.getresponse().read()) == {"bytes": 10}
    with ThreadPoolExecutor(50) as threads:
        for said, _ in threads.map(ended, connections):
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in head.lower()
            sentence = "The body did not come in time; send it at once."
            assert json.loads(body) == {"message": sentence, "error": sentence, "code": "PT408"}


def dripping(connection: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.05):
        try:
            connection.sendall(b" ")
        except OSError:
            return


@pytest.mark.parametrize(("more", "status"), [(b"", b"408"), (b"X-Early: 1\r\n", b"401")])
def test_a_drip_does_not_keep_a_connection(port: int, more: bytes, status: bytes) -> None:
    """A byte now and then, whether the body is read or the answer came before."""
    connection, stop = opened(port, HEAD % (100_000, more)), threading.Event()
    drip = threading.Thread(target=dripping, args=(connection, stop))
    drip.start()
    try:
        said, seconds = ended(connection)
    except ConnectionResetError:  # a drop fell on the closed connection; an answer came before
        said, seconds = b"HTTP/1.1 " + status, 0
    stop.set()
    drip.join()
    assert said.startswith(b"HTTP/1.1 " + status)
    assert seconds < 2 * PATIENCE + 2


def test_a_slow_line_passes(port: int) -> None:
    """It takes longer than the patience, and more comes all the while."""
    connection = opened(port, HEAD % (20 * 8192, b"Connection: close\r\n"))
    for _ in range(20):
        time.sleep(PATIENCE / 10)
        connection.sendall(b"x" * 8192)
    assert ended(connection)[0].endswith(b'{"bytes":163840}')


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 413), ({"X-Early": "1"}, 401)], ids=["too large", "not signed in"]
)
def test_an_early_answer_is_heard(port: int, headers: dict[str, str], status: int) -> None:
    """By a client that sends all before it listens."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("POST", "/", b"x" * (LIMIT + 1), headers)
    answer = client.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (status, "close")


def test_no_function_reads_a_body_in_another_way() -> None:
    """limited_stream() is the one place that waits for what a client sends."""
    readers = [
        (path.name, line.strip())
        for path in sorted((ROOT / "functions").rglob("*.py"))
        for line in path.read_text().splitlines()
        if re.search(r"request\.(stream|body|json|form)\(", line)
    ]
    assert readers == [("app.py", "pieces, seen = request.stream(), 0")]


def test_the_limits_that_the_page_gives_to_uvicorn() -> None:
    """As many connections as it says, idle ones counted, and no more; the next is told to come again."""
    shown = block(PAGE, "sh", "uvicorn").partition("PYTHONPATH=functions uvicorn ")[2]
    flags = shlex.split(shown.replace("\\\n", " "))
    limit = int(flags[flags.index("--limit-concurrency") + 1])
    port = ports.ephemeral()
    flags[flags.index("--port") + 1] = str(port)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": "functions",
        "SUPABASE_URL": "http://127.0.0.1:1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *flags], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )

    def status() -> int:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("OPTIONS", "/", headers={"Connection": "close"})
        return client.getresponse().status

    idle: list[socket.socket] = []
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                assert status() == 204
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
        idle += [opened(port, b"POST / HTTP/1.1\r\n") for _ in range(limit - 2)]
        assert status() == 204
        idle += [opened(port, b"POST / HTTP/1.1\r\n") for _ in range(2)]
        assert status() == 503
        for connection in idle:
            connection.close()
        time.sleep(0.5)
        assert status() == 204
    finally:
        process.terminate()
        process.wait(10)
