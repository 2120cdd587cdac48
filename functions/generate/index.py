"""POST {"operation", "prompt", "n", "options", "inputs", "mask", "dry_run"} -> the outputs, charged.

GET /{job} tells how a job stands, DELETE /{job} takes it back where that is possible. Whoever calls is a
signed-in user; what it may ask for, what that costs and which provider does it is a row of pricing_tiers.
Images may come with the request, as multipart: the JSON in the field `request`, the files as `image` and
`mask`.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from _shared import settings
from _shared.app import client_key, function
from _shared.database import user_rpc
from _shared.errors import FunctionError
from _shared.generation import jobs, storage
from _shared.generation.orders import Order, read_order
from _shared.tokens import User, verified_user

TEXT = "text/plain"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def generate(request: Request) -> JSONResponse:
    """Answers 200 with the outputs, 202 while the job is under way; an error says what was charged."""
    user = verified_user(request)
    jobs.wake()
    if request.method == "POST":
        return await _post(request, user)
    name = request.url.path.rstrip("/").rsplit("/", 1)[-1]
    if not ID.fullmatch(name):
        raise FunctionError(404, "There is no such job; its id comes after generate/.")
    return await (_get(user, name) if request.method == "GET" else _delete(user, name))


async def _post(request: Request, user: User) -> JSONResponse:
    key = client_key(request)
    order = await read_order(request)
    if order.dry_run:
        return await _quote(user, order)
    job = await user_rpc(
        user, "begin_generation",
        **order.asks(), request=order.digest(), idempotency_key=key, files=order.files(),
    )  # fmt: skip
    return await _answer(await jobs.result(job, order, user))


async def _quote(user: User, order: Order) -> JSONResponse:
    quote = await user_rpc(user, "quote_credits", **order.asks())
    return JSONResponse(
        {"operation": order.operation, "n": order.n,
         **{name: quote[name] for name in ("credits", "available", "affordable")}}
    )  # fmt: skip


async def _get(user: User, job_id: str) -> JSONResponse:
    job = await jobs.state(job_id, user)
    if job["finished_at"] is None:
        jobs.look_after(job)
        return _under_way(job)
    return await _answer(job)


async def _delete(user: User, job_id: str) -> JSONResponse:
    job = await user_rpc(user, "cancel_generation", job_id=job_id)
    if job["finished_at"] is None:
        if not jobs.can_be_canceled(job):
            raise _too_late(job, "The provider is at work on it, and takes nothing back.")
        if not job["provider_job_id"]:
            return _under_way(job)  # canceled as soon as it can be named
        job = await jobs.canceled(job) or await jobs.state(job_id, user)
    if job["status"] != "canceled":
        raise _too_late(job, "It is over." if job["finished_at"] else "The provider did not take it back.")
    return JSONResponse({"job": job["id"], "status": "canceled", "charged": job["credits_charged"]})


def _too_late(job: dict[str, Any], why: str) -> FunctionError:
    return FunctionError(
        409, f"The job cannot be canceled any more. {why}",
        code="too_late", extra={"job": job["id"], "status": job["status"], "charged": job["credits_charged"]},
    )  # fmt: skip


async def _answer(job: dict[str, Any]) -> JSONResponse:
    """The answer that a job gives, the first time and every time after."""
    about = {"job": job["id"], "charged": job["credits_charged"]}
    if job["status"] == "succeeded":
        try:
            urls = job.get("urls") or await storage.sign([output["path"] for output in job["outputs"]])
            texts = job.get("texts") or await asyncio.gather(*map(_text, job["outputs"]))
        except FunctionError as error:
            error.extra = {**about, "poll": _poll(job)}
            raise
        return JSONResponse(
            {
                "job": job["id"],
                "operation": job["operation"],
                "outputs": [
                    {
                        "url": url,
                        **{name: output[name] for name in ("mime_type", "width", "height")},
                        **({"text": text} if output["mime_type"] == TEXT else {}),
                    }
                    for url, output, text in zip(urls, job["outputs"], texts, strict=True)
                ],
                "credits_charged": job["credits_charged"],
                "available": job["available"],
                "transaction_id": job["transaction_id"],
            }
        )
    if job["finished_at"] is not None:
        why = job["error"]
        headers = {"Retry-After": "5"} if why["status"] in (429, 503) else None
        raise FunctionError(why["status"], why["message"], code=why["code"], headers=headers, extra=about)
    if job["status"] == "unknown":
        raise FunctionError(
            504, "The provider did not answer in time. Nothing is charged; ask `poll` what became of it.",
            code="no_answer", extra={**about, "poll": _poll(job)},
        )  # fmt: skip
    return _under_way(job)


async def _text(output: dict[str, Any]) -> str | None:
    return await storage.read_text(output["path"]) if output["mime_type"] == TEXT else None


def _under_way(job: dict[str, Any]) -> JSONResponse:
    body = {"job": job["id"], "operation": job["operation"], "status": job["status"], "poll": _poll(job)}
    return JSONResponse(body, 202, {"Retry-After": str(max(1, round(settings.poll_seconds())))})


def _poll(job: dict[str, Any]) -> str:
    """Where to ask for the job: a path below the project's URL, as the other functions are."""
    return f"/functions/v1/generate/{job['id']}"


@asynccontextmanager
async def _life() -> AsyncIterator[None]:
    jobs.wake()
    yield
    await jobs.drain()


app = function(generate, methods=("GET", "POST", "DELETE"), errors={"charged": 0}, life=_life)
