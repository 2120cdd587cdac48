"""TCP ports on the loopback address."""

import random
import socket
import time
from collections.abc import Container

from .errors import StackError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        # As servers do: a connection in TIME_WAIT does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def comes_free(port: int) -> bool:
    """Whether the port is free now or within half a second, for which a process that was just killed may
    still hold its socket.
    """
    deadline = time.monotonic() + 0.5
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def require_free(port: int, what: str) -> None:
    """Raise StackError, naming the port, when something already listens there."""
    if not comes_free(port):
        raise StackError(
            f"Port {port}, which the {what} needs, is taken by another program; "
            "choose another with --port N (the API takes N, the database N+1)."
        )


def ephemeral() -> int:
    """A port that is free now, chosen at random below those that the kernel gives to outgoing connections:
    one of these could take it before the server that it is for listens there.
    """
    return _unused(1)


def _unused(count: int) -> int:
    """The first of so many neighbouring ports that are free now."""
    for _ in range(200):
        port = random.randrange(20_000, 32_768 - count)  # noqa: S311 (no secret)
        if all(is_free(port + number) for number in range(count)):
            return port
    raise StackError("No TCP ports are free on 127.0.0.1; stop some servers and try again.")


def next_pair(start: int, reserved: Container[int]) -> int:
    """The first of start, start + 2, ... such that it and the port after it are free and not reserved."""
    for port in range(start, 65535, 2):
        if not any(one in reserved or not is_free(one) for one in (port, port + 1)):
            return port
    raise StackError(f"No two neighbouring TCP ports from {start} on are free; choose some with --port N.")


def free_pair() -> int:
    """A port N such that N and N+1 are both free now."""
    return _unused(2)
