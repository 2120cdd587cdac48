"""The local AI providers as a part of the stack."""

import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.local.providers.control import Control
from scripts.local.stack import Stack, StackError, ports
from scripts.local.stack.stack import PARTS
from tests.support.stack import ROOT

NAMES = {
    f"{name}_{what}"
    for name in ("OPENAI", "GEMINI", "STABILITY", "RUNWAY")
    for what in ("API_KEY", "BASE_URL")
}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Stack]:
    """A stack of its own, not started."""
    stack = Stack(ROOT, f"test-providers-{os.getpid()}", ports.free_pair())
    yield stack
    stack.stop(delete=True)


def image(given: dict[str, str]) -> httpx.Response:
    """Ask for an image with a stack's variables."""
    headers = {"Authorization": f"Bearer {given['OPENAI_API_KEY']}"}
    return httpx.post(
        f"{given['OPENAI_BASE_URL']}/images/generations",
        json={"prompt": "a fox"},
        headers=headers,
        trust_env=False,
    )


@pytest.mark.slow
def test_they_start_and_stop_with_the_stack(made: Stack) -> None:
    assert made.start(ticker=False)
    assert not NAMES & set(made.status().env())  # not without being asked for
    assert not NAMES & set(made.gateway_settings().function_environment())
    assert made.start(providers=True)  # added to one that runs
    status, functions = made.status().env(), made.gateway_settings().function_environment()
    assert set(status) > NAMES and set(functions) > NAMES
    assert {name: status[name] for name in NAMES} == {name: functions[name] for name in NAMES}
    assert image(status).is_success
    with Control(status["PROVIDERS_URL"]) as control:
        assert control.paid("openai") == 1
    assert not made.start()  # they stay, without being asked for again
    assert made.start(providers=True) is False

    made._daemons()["providers"].stop()
    assert made.down() == ["providers"]
    with pytest.raises(StackError, match="providers not running"):
        made.status()
    assert made.start()  # repairs
    assert image(made.status().env()).is_success
    assert made.status().env() == status  # the same address and keys

    made.stop()
    with pytest.raises(httpx.ConnectError):
        image(status)
    made.start()
    assert not made.status().providers and made.down() == []
    assert len(made.log_files()) > len(PARTS)


def test_keys_are_needed(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in NAMES}
    command = [sys.executable, "-m", "scripts.local.providers", "--port", str(ports.ephemeral())]
    done = subprocess.run(
        command, cwd=ROOT, env={**bare, "OPENAI_API_KEY": "a"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "scripts.local.providers: set GEMINI_API_KEY, STABILITY_API_KEY, RUNWAY_API_KEY in the environment."
    )


def test_aimock_ends_when_they_are_killed(tmp_path: Path) -> None:
    keys = {f"{name}_API_KEY": "a" for name in ("OPENAI", "GEMINI", "STABILITY", "RUNWAY")}
    port = ports.ephemeral()
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.local.providers", "--port", str(port)],
        cwd=ROOT, env={**os.environ, **keys}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(400):
            try:
                chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
                url, headers = (
                    f"http://127.0.0.1:{port}/openai/v1/chat/completions",
                    {"Authorization": "Bearer a"},
                )
                assert httpx.post(url, json=chat, headers=headers, trust_env=False, timeout=20).is_success
                break
            except httpx.ConnectError:
                assert process.poll() is None
                _wait(0.02)
        (child,) = [
            int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ]
    finally:
        process.kill()
        process.wait()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or "aimock" not in Path(f"/proc/{child}/cmdline").read_text():
            return
        _wait(0.05)
    raise AssertionError("aimock outlives the process that started it")


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def test_an_older_node_gets_what_aimock_imports() -> None:
    """Newer ones have it, and take the hooks all the same."""
    data = "ä cat " * 99
    script = """
        import module from 'node:module'
        module.register(process.argv[1])
        const { crc32, gzipSync } = await import('node:zlib')
        const [first, rest] = [process.argv[2].slice(0, 9), process.argv[2].slice(9)]
        console.log(crc32(process.argv[2]), crc32(Buffer.from(rest), crc32(first)), typeof gzipSync)
    """
    hooks = (ROOT / "scripts" / "local" / "providers" / "zlib_hooks.mjs").as_uri()
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, hooks, data], capture_output=True, text=True, check=True
    )
    crc = zlib.crc32(data.encode())
    assert done.stdout.split() == [str(crc), str(crc), "function"]
