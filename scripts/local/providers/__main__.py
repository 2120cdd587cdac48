"""Serve the local providers until a signal comes. Keys come from the environment, not the command line."""

import argparse
import asyncio
import logging
import os
import signal
import sys

from .app import KEYS, Server


async def serve(keys: dict[str, str], port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(keys, port)
    await server.start()
    logging.getLogger("providers").info("For development only: nothing is generated.")
    await ended.wait()
    await server.stop()


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.local.providers", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen on 127.0.0.1")
    port = parser.parse_args().port
    keys = {name: os.environ.get(name, "") for name in KEYS}
    missing = [name for name, value in keys.items() if not value]
    if missing:
        print(f"scripts.local.providers: set {', '.join(missing)} in the environment.", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(keys, port))
    except OSError as error:
        print(f"scripts.local.providers: port {port} cannot be used: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
