"""Serve the local Stripe until a signal comes. Keys come from the environment, not the command line."""

import argparse
import logging
import os
import sys
from pathlib import Path

HOST = "127.0.0.1"


def main() -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.local.stripe", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to listen on 127.0.0.1")
    parser.add_argument("--database", type=Path, required=True, help="the SQLite file that holds the state")
    parser.add_argument("--webhook-url", help="where events go (default: nowhere)")
    chosen = parser.parse_args()
    key, secret = os.environ.get("STRIPE_SECRET_KEY", ""), os.environ.get("STRIPE_WEBHOOK_SECRET", "")
    if not key.startswith("sk_test_") or not secret.startswith("whsec_"):
        print(
            "scripts.local.stripe: set STRIPE_SECRET_KEY (sk_test_...) and STRIPE_WEBHOOK_SECRET (whsec_...) "
            "in the environment.",
            file=sys.stderr,
        )
        return 2
    import uvicorn

    from .app import application
    from .store import Store
    from .world import World

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("stripe").info("For development only: no money moves.")
    os.umask(0o077)
    world = World(Store(chosen.database), f"http://{HOST}:{chosen.port}", chosen.webhook_url)
    uvicorn.run(
        application(world, key, secret),
        host=HOST, port=chosen.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=3, timeout_keep_alive=60,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
