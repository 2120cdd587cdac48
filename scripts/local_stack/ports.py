"""TCP ports on the loopback address."""

import socket
import time

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


def require_free(port: int, what: str) -> None:
    """Raise StackError, naming the port, when something already listens there.

    Waits half a second for it: a process that was just killed holds its socket a little longer.
    """
    deadline = time.monotonic() + 0.5
    while not is_free(port):
        if time.monotonic() > deadline:
            raise StackError(
                f"Port {port}, which the {what} needs, is taken by another program; "
                "choose another with --port N (the API takes N, the database N+1)."
            )
        time.sleep(0.02)


def ephemeral() -> int:
    """A port that is free now, chosen by the kernel."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def free_pair() -> int:
    """A port N such that N and N+1 are both free now."""
    for _ in range(100):
        port = ephemeral()
        if port < 65535 and is_free(port + 1):
            return port
    raise StackError("No two neighbouring TCP ports are free on 127.0.0.1; stop some servers and try again.")
