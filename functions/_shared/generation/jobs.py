"""The run of a generation job, from the provider's call to its charge.

Every job runs in a task of this process that no request owns: a client who hangs up changes nothing. What
has to survive the process is in the database, and sql/generation decides who gets what: here nothing is
priced or charged.
"""

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from .. import settings
from ..database import service_rpc, user_rpc
from ..errors import FunctionError
from ..settings import Endpoint
from ..tokens import User
from . import calls, fetch, storage
from .media import IMAGE_BYTES, VIDEO_BYTES, BadMediaError, Media, check, text
from .orders import Order, read_image
from .providers import provider
from .providers.protocol import (
    UNUSABLE,
    Delivered,
    Failed,
    Lost,
    NotSetUpError,
    Outcome,
    Provider,
    Refused,
    Started,
    Tokens,
    Work,
    Working,
)
from .timeouts import EXTENSION_SECONDS, HEARTBEAT_SECONDS, LONGEST_SECONDS, seconds_to_answer

log = logging.getLogger("functions")

GIVE_UP = 3600.0  # seconds after which an outcome that the database does not take is let go
INPUT_SECONDS = 40  # for reading the inputs of a job, which has a minute until it is dispatched
INPUT_PAUSES = (0.3, 1, 2)  # after each attempt
BATCH = 100  # tasks that are taken over with one call
REPEAT_SECONDS = 25.0  # how long a repeat waits for a job that another process runs
STORE_ATTEMPTS = 5
REFUSED = Failed(422, "refused", "The provider's policy does not allow this; change the prompt or the image.")
NOT_STORED = Failed(
    503, "not_stored", "The output could not be stored; try again with a new Idempotency-Key."
)
NOT_READ = "An input could not be read, as the storage does not answer; try again with a new Idempotency-Key."

Job = dict[str, Any]

_runs: dict[str, asyncio.Task[Job | None]] = {}
_follows: dict[str, asyncio.Task[Any]] = {}
_ending = asyncio.Event()
_awake: list[asyncio.Task[None]] = []
_orphaned = asyncio.Event()  # somebody asked for a task that no process sees to


# -- the process ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _me() -> str:
    """This process, to all others. Not made at import, which may be before a fork."""
    return str(uuid.uuid4())


def _lease() -> dict[str, Any]:
    return {"process": _me(), "lease_seconds": settings.lease_seconds()}


def wake() -> None:
    """From now on, see to tasks that other processes left with a provider, and to files nobody needs."""
    if not _awake:
        looks = _every(lambda: settings.lease_seconds() / 3, _take_over, _orphaned)
        sweeps = _every(settings.sweep_seconds, _sweep, asyncio.Event())
        _awake.extend(map(asyncio.create_task, (looks, sweeps)))


async def _every(
    seconds: Callable[[], float], work: Callable[[], Awaitable[None]], at_once: asyncio.Event
) -> None:
    """Do the work now, and again after so many seconds, or at once when that is wished."""
    while not _ending.is_set():
        at_once.clear()
        pause = 60.0
        try:
            pause = seconds()
            await work()
        except FunctionError as error:
            log.warning("%s will be tried again: %s %s", work.__name__, error.code, error.message)
        except Exception as error:
            _log_frames(work.__name__, error)
        with suppress(TimeoutError):
            await asyncio.wait_for(at_once.wait(), pause)


async def _take_over() -> None:
    """Follow the tasks at providers whose process is gone."""
    more = True
    while more and not _ending.is_set():
        jobs: list[Job] = await service_rpc("lease_generations", **_lease(), batch=BATCH)
        for job in jobs:
            follow(job, at_once=True)
        more = len(jobs) == BATCH


async def _sweep() -> None:
    """Delete the files that the database names, unless another process is at it."""
    more = True
    while more and not _ending.is_set():
        swept = await service_rpc("sweep_files", process=_me()) or {"paths": [], "more": False}
        if swept["paths"]:
            await storage.remove(swept["paths"])
            log.info("%s files that nobody needs were deleted.", len(swept["paths"]))
        more = swept["more"]


async def drain() -> None:
    """End within the grace: jobs that run are finished, tasks at providers left to the next process."""
    _ending.set()
    tasks: set[asyncio.Task[Any]] = {*_runs.values(), *_follows.values()}
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=settings.grace_seconds())
        if left:
            log.error("%s jobs were not finished in time; the sweep will end them.", len(left))
    for task in (*_awake, *_runs.values(), *_follows.values()):
        task.cancel()
    await asyncio.gather(*_awake, return_exceptions=True)
    try:
        await service_rpc("release_generations", process=_me())
    except FunctionError as error:
        log.warning("others take the tasks over once their leases have ended: %s", error.code)
    for close in (calls.close, fetch.close, storage.close):
        await close()


def _spawn(
    tasks: dict[str, asyncio.Task[Any]], job_id: str, work: Coroutine[Any, Any, Any]
) -> asyncio.Task[Any]:
    def done(task: asyncio.Task[Any]) -> None:
        tasks.pop(job_id, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, FunctionError):
            log.error("job %s: %s %s", job_id, error.code, error.message)
        elif error:
            _log_frames(job_id, error)

    task = asyncio.get_running_loop().create_task(work)
    tasks[job_id] = task
    task.add_done_callback(done)
    return task


def _log_frames(job_id: str, error: BaseException) -> None:
    # Not the exception's own text, which may quote a prompt.
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("job %s: unexpected %s\n%s", job_id, type(error).__name__, frames)


async def _until_done(rpc: str, **arguments: Any) -> Any:
    """Call an RPC again and again while the database is away. Only for those that may be repeated."""
    began, pause = time.monotonic(), 0.2
    while True:
        try:
            return await service_rpc(rpc, **arguments)
        except FunctionError as error:
            if error.status < 500 or time.monotonic() - began > GIVE_UP:
                raise
            log.warning("%s will be tried again: %s", rpc, error.code)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 15)


# -- a job ---------------------------------------------------------------------------------------------


async def result(job: Job, order: Order, user: User) -> Job:
    """The job once it is over, or is with the provider for longer, or took as long as an answer may wait.

    Whoever comes first runs it; all others wait for that one, here or in another process.
    """
    task = _runs.get(job["id"])
    if task is None and job["status"] == "held":
        if _ending.is_set():
            raise FunctionError(503, "This process ends; send the same again.", headers={"Retry-After": "1"})
        task = _spawn(_runs, job["id"], _run(job, order, user))
    if task is not None:
        await asyncio.wait({task}, timeout=settings.wait_seconds())
        if not task.done():
            return await state(job["id"], user)
        error = task.exception()
        if isinstance(error, FunctionError):
            raise error
        if error is None and (outcome := task.result()) is not None:
            return outcome
        job = await state(job["id"], user)
    return await _watch(job, user)


async def state(job_id: str, user: User) -> Job:
    """The user's job as it is now. FunctionError 404 for another's."""
    job: Job = await user_rpc(user, "my_generation", job_id=job_id)
    return job


async def _watch(job: Job, user: User) -> Job:
    """Wait for a job that somebody else runs."""
    until, pause = time.monotonic() + REPEAT_SECONDS, 0.1
    while job["status"] in ("held", "dispatched") and time.monotonic() < until:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 1)
        job = await state(job["id"], user)
    return job


async def _run(held: Job, order: Order, user: User) -> Job | None:
    """Dispatch the job, if nobody else has, and see it through. None when somebody else has."""
    try:
        adapter, endpoint = _provider(held)
        images, mask = await _inputs(order, user)
        # The options that the price was made of, not those of the request.
        work = Work(
            held["operation"], held["model"], order.prompt, held["quantity"], held["options"], images,
            held["terms"]["output"], mask,
        )  # fmt: skip
        adapter.check(work)
    except NotSetUpError as error:
        return await _decline(held, _not_set_up(held, error, calls.NOT_SET_UP))
    except FunctionError as error:
        return await _decline(held, Failed(error.status, error.code, error.message))
    job: Job | None = await service_rpc("dispatch_generation", **_key(held))
    if job is None or job["finished_at"] is not None:
        return job
    began = time.monotonic()
    until = began + seconds_to_answer(float(job["terms"]["deadline_seconds"]))
    try:
        outcome = await calls.start(adapter, endpoint, work, until)
    except Exception as error:
        # It may have been sent: nobody knows what the provider does with it.
        _log_frames(job["id"], error)
        outcome = Lost()
    latency = int((time.monotonic() - began) * 1000)
    if isinstance(outcome, Delivered) and time.monotonic() > until:
        await _note(job, extend_seconds=EXTENSION_SECONDS)
    return await _settle(job, adapter, endpoint, outcome, latency)


def _provider(job: Job) -> tuple[Provider, Endpoint]:
    """Who does the job. Raises NotSetUpError without an adapter, FunctionError without a key."""
    adapter = provider(job["provider"])
    try:
        return adapter, settings.provider(adapter.env, adapter.base_url)
    except FunctionError as error:
        failure = _not_set_up(job, error, calls.NO_KEY)
        raise FunctionError(failure.status, failure.message, code=failure.code) from None


def _not_set_up(job: Job, error: Exception, failure: Failed) -> Failed:
    """What only the operator can mend: what it is goes to the log, and the user hears that it is so."""
    log.error("job %s cannot run: %s %s", job["id"], failure.code, error)
    return failure


async def _decline(held: Job, failure: Failed) -> Job | None:
    """End a job that no provider was asked about. None when somebody else has dispatched it meanwhile."""
    declined: Job = await _until_done("decline_generation", **_key(held), error=_told(failure))
    return declined if declined["finished_at"] is not None else None


async def _inputs(order: Order, user: User) -> tuple[list[Media], Media | None]:
    """The images and the mask, those in the storage read. FunctionError 503 once it was away for too long."""
    try:
        async with asyncio.timeout(INPUT_SECONDS):
            read = await asyncio.gather(*(_input(user, path) for path in order.files()))
    except TimeoutError:
        raise FunctionError(503, NOT_READ, code="not_read") from None
    images = [*order.uploads, *read[: len(order.inputs)]]
    return images, next(iter(read[len(order.inputs) :]), order.uploaded_mask)


async def _input(user: User, path: str) -> Media:
    for pause in INPUT_PAUSES:
        try:
            return read_image(await storage.download(user, path))
        except FunctionError as error:
            if error.status < 500:
                raise
            await asyncio.sleep(pause)
    raise FunctionError(503, NOT_READ, code="not_read")


async def _settle(job: Job, adapter: Provider, endpoint: Endpoint, outcome: Outcome, latency: int) -> Job:
    """Put an outcome on record. Raises FetchError when the outputs cannot be fetched now."""
    log.info("job %s: %s by %s", job["id"], type(outcome).__name__.lower(), job["provider"])
    match outcome:
        case Lost():
            return await _note(job, unknown=True) or {**job, "status": "unknown"}
        case Started(task):
            noted: Job = await _until_done("note_generation", **_key(job), provider_job_id=task, **_lease())
            if noted["finished_at"] is not None:
                await calls.cancel(adapter, endpoint, task)
            else:
                follow(noted)
            return noted
        case Refused():
            return await _finish(job, "refused", REFUSED, latency, tokens=outcome.tokens)
        case Failed():
            ending = "canceled" if outcome.code == "canceled" else "failed"
            return await _finish(job, ending, outcome, latency, tokens=outcome.tokens)
        case Delivered():
            return await _deliver(job, adapter, endpoint, outcome, latency)


async def _deliver(job: Job, adapter: Provider, endpoint: Endpoint, outcome: Delivered, latency: int) -> Job:
    media = await _usable(job, adapter, endpoint, outcome)
    if not media:
        return await _finish(job, "failed", UNUSABLE, latency, tokens=outcome.tokens)
    paths = [f"{job['account_id']}/{job['id']}/{index}.{item.extension}" for index, item in enumerate(media)]
    if not await _stored(paths, media):
        unstored = await _finish(job, "failed", NOT_STORED, latency, tokens=outcome.tokens)
        if unstored["status"] != "succeeded":  # by another process that saw to it meanwhile
            await _removed(paths)
        return unstored
    outputs = [
        {"path": path, "mime_type": item.mime_type, "width": item.width, "height": item.height}
        for path, item in zip(paths, media, strict=True)
    ]
    signing = asyncio.create_task(_signed(paths))
    finished = await _finish(job, "succeeded", None, latency, outputs, tokens=outcome.tokens)
    urls = await signing
    if finished["status"] != "succeeded":
        # Expired or canceled meanwhile. Outputs that nobody pays for are not given away.
        await _removed(paths)
    if finished["outputs"] != outputs:
        return finished
    return {**finished, "urls": urls, "texts": [item.inline for item in media]}


async def _usable(job: Job, adapter: Provider, endpoint: Endpoint, outcome: Delivered) -> list[Media]:
    """The outputs that are what they should be, as many as were asked for. Raises FetchError."""
    files = list(outcome.files)
    limit = max(IMAGE_BYTES, VIDEO_BYTES)
    for link in outcome.links[: job["quantity"]]:
        try:
            stand_in = endpoint.base_url if endpoint.is_stand_in else None
            files.append(await fetch.fetch(link, adapter.hosts, stand_in, limit))
        except fetch.ForbiddenLinkError as error:
            log.error("job %s: an output of %s was not fetched: %s", job["id"], job["provider"], error)
    readers = [*(partial(check, file) for file in files), *(partial(text, item) for item in outcome.texts)]
    usable = []
    for read in readers:
        try:
            usable.append(read())
        except BadMediaError as error:
            log.warning("job %s: an output of %s was dropped: %s", job["id"], job["provider"], error)
    return usable[: job["quantity"]]


async def _stored(paths: list[str], media: list[Media]) -> bool:
    for attempt in range(STORE_ATTEMPTS):
        try:
            await asyncio.gather(*map(storage.upload, paths, media))
        except FunctionError as error:
            log.warning("an output could not be stored: %s", error.message)
            await asyncio.sleep(0.3 * 2**attempt)
        else:
            return True
    return False


async def _signed(paths: list[str]) -> list[str] | None:
    try:
        return await storage.sign(paths)
    except FunctionError:
        return None  # the answer tries again


async def _removed(paths: list[str]) -> None:
    try:
        await storage.remove(paths)
    except FunctionError as error:
        log.warning("outputs could not be removed: %s", error.message)


def _key(job: Job) -> dict[str, str]:
    """How the functions for the service name a job."""
    return {"account_id": job["account_id"], "job_id": job["id"]}


def _told(failure: Failed) -> dict[str, Any]:
    """A failure as the job keeps it."""
    return {"status": failure.status, "code": failure.code, "message": failure.message}


async def _finish(
    job: Job,
    outcome: str,
    failure: Failed | None,
    latency: int | None = None,
    outputs: list[Any] | None = None,
    *,
    tokens: Tokens = MappingProxyType({}),
) -> Job:
    error = _told(failure) if failure else None
    finished: Job = await _until_done(
        "finish_generation",
        **_key(job), outcome=outcome, outputs=outputs or [], error=error, latency_ms=latency,
        tokens=dict(tokens) or None,
    )  # fmt: skip
    return finished


async def _note(job: Job, **what: Any) -> Job | None:
    """note_generation(), where it is no loss when the database is away."""
    try:
        noted: Job = await service_rpc("note_generation", **_key(job), **what)
    except FunctionError as error:
        log.warning("job %s: a note was not taken: %s", job["id"], error.code)
        return None
    return noted


# -- work that takes minutes ---------------------------------------------------------------------------


def look_after(job: Job) -> None:
    """Have a task taken over at once if no process sees to it."""
    if job["provider_job_id"] and (job["leased_until"] is None or _since(job["leased_until"]) > 0):
        _orphaned.set()


def follow(job: Job, at_once: bool = False) -> None:
    """See to a task at a provider in the background, when it is this process's and not followed yet."""
    if job["id"] not in _follows and job["leased_by"] == _me() and not _ending.is_set():
        _spawn(_follows, job["id"], _follow(job, at_once))


async def _follow(job: Job, at_once: bool) -> None:
    adapter, endpoint = _provider(job)
    task: str = job["provider_job_id"]
    interval = settings.poll_seconds()
    began = time.monotonic()
    # The first poll brings a heartbeat, and so does the last before the deadline.
    every = min(HEARTBEAT_SECONDS, float(job["terms"]["deadline_seconds"]) / 3, settings.lease_seconds() / 3)
    beat = -HEARTBEAT_SECONDS
    while at_once or not await _told_to_end(interval):
        at_once = False
        outcome = await calls.poll(adapter, endpoint, task)
        if outcome is not None and not isinstance(outcome, Working):
            try:
                # Fetching and storing take their time.
                noted = await _note(job, extend_seconds=EXTENSION_SECONDS, **_lease())
                if noted is None or noted["leased_by"] == _me():
                    await _settle(job, adapter, endpoint, outcome, _since(job["dispatched_at"]))
                return
            except fetch.FetchError as error:
                log.warning("job %s: the output did not come: %s", job["id"], error)
        if time.monotonic() - beat < every:
            continue
        beat = time.monotonic()
        # A provider that does not answer gets no more time than it has.
        alive = outcome is not None and beat - began < LONGEST_SECONDS
        noted = await _note(job, extend_seconds=EXTENSION_SECONDS if alive else None, **_lease())
        if noted is None:
            continue
        if noted["finished_at"] is not None:
            await calls.cancel(adapter, endpoint, task)
            return
        if noted["leased_by"] != _me():
            log.warning("job %s: another process sees to it now", job["id"])
            return
        if noted["cancel_requested_at"] is not None and await canceled(noted) is not None:
            return


async def _told_to_end(seconds: float) -> bool:
    """Sleep, unless the process shall end; whether it shall."""
    try:
        await asyncio.wait_for(_ending.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _since(moment: str) -> int:
    """Milliseconds since a timestamp of the database; 0 for one to come."""
    then = datetime.fromisoformat(moment)
    return max(0, int((datetime.now(then.tzinfo) - then).total_seconds() * 1000))


def can_be_canceled(job: Job) -> bool:
    """Whether the provider takes work back at all."""
    try:
        return provider(job["provider"]).cancel(job["provider_job_id"] or "") is not None
    except NotSetUpError as error:
        _not_set_up(job, error, calls.NOT_SET_UP)
        return False


async def canceled(job: Job) -> Job | None:
    """The job, canceled at its provider; None when that is not possible (any more)."""
    adapter, endpoint = _provider(job)
    if not job["provider_job_id"] or not await calls.cancel(adapter, endpoint, job["provider_job_id"]):
        return None
    return await _finish(
        job, "canceled", Failed(409, "canceled", "The job was canceled."), _since(job["dispatched_at"])
    )
