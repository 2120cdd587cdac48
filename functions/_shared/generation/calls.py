"""Asks providers, once, and sorts everything that can happen into outcomes.

What decides about money is whether a request may have been carried out: only where it surely was not is it
sent a second time, and that once.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime

import aiohttp
import httpx

from ..pool import connections
from ..settings import Endpoint
from ..transport import Client, Transport, parsed_url
from . import timeouts
from .media import MEGABYTE
from .providers.protocol import (
    UNUSABLE,
    Ask,
    Delivered,
    Failed,
    Lost,
    Outcome,
    Provider,
    Refused,
    Reply,
    Started,
    Work,
    Working,
)

log = logging.getLogger("functions")

CONNECTIONS = 200  # to one provider
HEADER_LIMIT = 64 * 1024  # of one line
HEADERS = 1000
BODY_LIMIT = 160 * MEGABYTE  # ten images in base64
# The provider itself says that it did not do it. 529 is "overloaded".
TURNED_AWAY = (500, 501, 503, 529)

AGAIN = "try again in a moment, with a new Idempotency-Key."
BUSY = Failed(429, "provider_busy", f"The provider is busy; {AGAIN}")
DOWN = Failed(502, "provider_down", f"The provider does not work now; {AGAIN}")
REJECTED = Failed(
    502, "provider_rejected", "The provider does not take this request; change the prompt or options."
)
GONE = Failed(
    502, "model_gone",
    "The provider no longer offers the model of this operation; it takes the app's operator to name another.",
)  # fmt: skip
QUOTA = Failed(
    502, "provider_quota", "The app has used up what it may use of the provider; tell the app's operator."
)
NO_KEY = Failed(502, "provider_key", "The provider does not let this app in; tell the app's operator.")
NOT_SET_UP = Failed(500, "not_set_up", "This operation is not set up rightly; tell the app's operator.")
FAILURES = {"gone": GONE, "quota": QUOTA, "key": NO_KEY, "busy": BUSY, "rejected": REJECTED}
RANK: list[type[Outcome]] = [Started, Lost, Refused, Failed]

_clients: dict[str, Client] = {}


class _NotSentError(Exception):
    """No connection: the provider has seen nothing."""


class _LostError(Exception):
    """Sent, wholly or in part, and no whole answer came."""


def _client(base_url: str) -> Client:
    """The client for a provider; each has its own, as a proxy may be for some hosts only."""
    if base_url not in _clients:
        session = connections(
            base_url,
            # The caller's deadline is the other limit.
            aiohttp.ClientTimeout(connect=timeouts.READY_SECONDS, sock_connect=timeouts.CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS,
                keepalive_timeout=timeouts.IDLE_SECONDS,
                ssl=httpx.create_ssl_context(),
            ),
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=HEADERS,
        )
        _clients[base_url] = Client(transport=Transport(session), follow_redirects=False)
    return _clients[base_url]


async def close() -> None:
    """End the connections."""
    while _clients:
        await _clients.popitem()[1].aclose()


async def start(provider: Provider, endpoint: Endpoint, work: Work, until: float) -> Outcome:
    """Have the work done, or begun. `until` is time.monotonic() at its deadline.

    A job of more outputs than a request can have takes several requests at once, each for outputs of its own.
    """
    shares = [provider.outputs_per_request] * (work.n // provider.outputs_per_request)
    if work.n % provider.outputs_per_request:
        shares.append(work.n % provider.outputs_per_request)
    outcomes = await asyncio.gather(
        *(_share(provider, endpoint, replace(work, n=share), until) for share in shares)
    )
    return _together(outcomes)


def _together(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several: what was delivered counts, then what may yet have been, then refusals."""
    delivered = [outcome for outcome in outcomes if isinstance(outcome, Delivered)]
    files = [item for outcome in delivered for item in outcome.files]
    texts = [item for outcome in delivered for item in outcome.texts]
    links = [item for outcome in delivered for item in outcome.links]
    tokens: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, Delivered | Refused | Failed):
            tokens.update(outcome.tokens)
    if files or texts or links:
        return Delivered(files, texts, links, tokens)
    rest = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
    best = min(rest, key=lambda outcome: RANK.index(type(outcome)), default=UNUSABLE)
    return replace(best, tokens=tokens) if isinstance(best, Refused | Failed) else best


async def _share(provider: Provider, endpoint: Endpoint, work: Work, until: float) -> Outcome:
    ask = provider.ask(work)
    for last in (False, True):
        wait: float | None = None
        try:
            reply = await _send(provider, endpoint, ask, until)
        except _LostError:
            return Lost()
        except _NotSentError:
            return DOWN
        if reply.status // 100 == 2:
            read = provider.read(reply, work)
            return read if isinstance(read, Started) else replace(read, tokens=provider.tokens(reply, work))
        outcome = _judge(provider, reply, work)
        if outcome not in (BUSY, DOWN):
            return outcome
        wait = _retry_after(reply)
        if last or wait is None or time.monotonic() + wait >= until:
            break
        await asyncio.sleep(wait)
    return outcome


def _judge(provider: Provider, reply: Reply, work: Work) -> Outcome:
    """What an answer says that is no success."""
    if reply.status >= 500:
        log.warning("%s answered with status %s", provider.env, reply.status)
        # 502, 504 and their kin: someone on the way lost the provider's answer.
        return DOWN if reply.status in TURNED_AWAY else Lost()
    if provider.refused(reply):
        return Refused()
    failed = FAILURES[provider.failure(reply)]
    # What only the operator can mend is an error.
    level = logging.ERROR if failed in (GONE, QUOTA, NO_KEY) else logging.WARNING
    log.log(level, "%s answered %s for %s: %s", provider.env, reply.status, work.model, failed.code)
    return failed


def _retry_after(reply: Reply) -> float | None:
    """Retry-After in seconds; None when it does not say, or not so that it can be read."""
    value = reply.headers.get("retry-after", "")
    if value.isascii() and value.isdecimal() and len(value) < 9:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


async def _send(provider: Provider, endpoint: Endpoint, ask: Ask, until: float) -> Reply:
    # A compressed answer could unpack to any size; images do not get smaller by it.
    if until <= time.monotonic():
        raise _NotSentError
    request = httpx.Request(
        ask.method, parsed_url(endpoint.base_url + ask.path), json=ask.json, data=ask.data, files=ask.files,
        headers={"Accept-Encoding": "identity", **provider.headers(endpoint.key), **ask.headers},
    )  # fmt: skip
    try:
        async with asyncio.timeout(until - time.monotonic()):
            response = await _client(endpoint.base_url).send(request, stream=True)
            try:
                return Reply(response.status_code, response.headers, await _body(response))
            finally:
                await response.aclose()
    except httpx.ConnectError:
        raise _NotSentError from None
    except (httpx.HTTPError, TimeoutError) as error:
        log.warning("%s gave no answer: %s", provider.env, type(error).__name__)
        raise _LostError from None


async def _body(response: httpx.Response) -> bytes:
    """The body; empty, and so unusable, when it is compressed all the same, or too long."""
    body = bytearray()
    if "content-encoding" not in response.headers:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > BODY_LIMIT:
                return b""
    return bytes(body)


async def poll(
    provider: Provider, endpoint: Endpoint, task: str
) -> Delivered | Working | Refused | Failed | None:
    """What became of a task; None when the provider does not say now."""
    ask = provider.poll(task)
    if ask is None:
        return None
    try:
        reply = await _send(provider, endpoint, ask, time.monotonic() + timeouts.POLL_SECONDS)
    except (_LostError, _NotSentError):
        return None
    if reply.status == 404:
        return Failed(502, "task_gone", "The provider no longer knows the job.")
    if reply.status // 100 != 2:
        log.warning("%s answered a poll with status %s", provider.env, reply.status)
        return None
    return provider.read_poll(reply)


async def cancel(provider: Provider, endpoint: Endpoint, task: str) -> bool:
    """Whether the provider takes the task back. One that is done already stays."""
    ask = provider.cancel(task)
    # Asked first: to Runway, canceling a task that is done means deleting what it made.
    if ask is None or not isinstance(await poll(provider, endpoint, task), Working):
        return False
    try:
        reply = await _send(provider, endpoint, ask, time.monotonic() + timeouts.POLL_SECONDS)
    except (_LostError, _NotSentError):
        return False
    return reply.status // 100 == 2
