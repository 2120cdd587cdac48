"""The function stripe-webhook in a process that kills itself before or after it has asked the database, as
KILL says. For tests only.
"""

import importlib.util
import os
import signal
from pathlib import Path
from typing import Any


def load() -> Any:
    """functions/stripe-webhook/index.py, made deadly."""
    file = Path(__file__).resolve().parents[3] / "functions" / "stripe-webhook" / "index.py"
    spec = importlib.util.spec_from_file_location("stripe_webhook", file)
    assert spec and spec.loader
    index: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    ingest, kill = index.ingest_event, os.environ.get("KILL")

    async def ingest_event(body: bytes) -> Any:
        if kill == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = await ingest(body)
        if kill == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    index.ingest_event = ingest_event
    return index


app = load().app
