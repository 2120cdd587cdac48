"""How long a provider may take.

The deadline of a whole job is data: `deadline_seconds` in the `terms` of its row of pricing_tiers.
"""

import httpx

CONNECT_SECONDS = 5
READY_SECONDS = 15  # for a free connection, the provider's address and the connecting, together
IDLE_SECONDS = 5  # that a connection is kept: well below what providers keep it
POLL_SECONDS = 20  # for an answer about a task that is under way
HEARTBEAT_SECONDS = 20.0  # between heartbeats of a task that is under way
EXTENSION_SECONDS = 90  # that a heartbeat gives its job
LONGEST_SECONDS = 3600.0  # after which a task gets no more of them
LINK = httpx.Timeout(30, connect=5)  # for each step of fetching what a provider's link leads to


def seconds_to_answer(deadline_seconds: float) -> float:
    """How much of a job's time the provider has; what is left is for storing."""
    return deadline_seconds - min(15, deadline_seconds / 3)
