"""The function stripe-webhook in a process that kills itself before or after it has asked the database, as
KILL says. For tests only.
"""

import os
import signal
from typing import Any

from tests.support import function_module

KILL = os.environ.get("KILL")

index: Any = function_module.load("stripe-webhook")
ingest = index.ingest_event


async def ingest_event(body: bytes) -> Any:
    """The same, deadly."""
    if KILL == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    outcome = await ingest(body)
    if KILL == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome


index.ingest_event = ingest_event
app = index.app
