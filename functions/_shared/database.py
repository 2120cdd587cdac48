"""Postgres through PostgREST's RPCs, with one pool of connections for the process.

RPCs run as the user wherever a user acts, and with the secret key only where the design says service_role.
They are plain POSTs.
"""

import json
from functools import lru_cache
from typing import Any

import aiohttp

from . import settings
from .errors import FunctionError, unavailable
from .pool import connections
from .tokens import User

# Longer than the database's own limit of 8 seconds, so that its answer is heard.
TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)
AWAY = "The database does not answer; try again in a moment."


def _refusal(status: int, content: bytes) -> FunctionError:
    """An error of PostgREST as ours, with its HTTP status."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and body.get("code") == "":
        # What PostgREST says when Postgres died under the statement: no SQLSTATE, no words, and status 400.
        return unavailable(AWAY)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return FunctionError(
            status,
            body["message"],
            code=body.get("code"),
            details=body.get("details"),
            hint=body.get("hint"),
            headers=_retry_after(status, body.get("details")),
        )
    if status >= 500:
        return unavailable(AWAY)
    return FunctionError(500, f"Supabase answered with status {status} and no reason; check SUPABASE_URL.")


def _retry_after(status: int, details: Any) -> dict[str, str] | None:
    """The header that says when to try again, where it makes sense: what `details` tell, or some seconds."""
    if status not in (429, 503):
        return None
    try:
        return {"Retry-After": str(int(json.loads(details)["retry_after"]))}
    except (TypeError, ValueError, KeyError):
        return {"Retry-After": "5"}


@lru_cache(maxsize=1)
def _pool() -> aiohttp.ClientSession:
    return connections(settings.supabase_url(), TIMEOUT)


async def _call(name: str, key: str, token: str, body: bytes) -> Any:
    headers = {"apikey": key, "Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"{settings.supabase_url()}/rest/v1/rpc/{name}"
    try:
        async with _pool().post(url, data=body, headers=headers, allow_redirects=False) as answer:
            content = await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        raise unavailable(AWAY) from None
    if answer.status >= 300:
        raise _refusal(answer.status, content)
    return json.loads(content) if content else None


async def user_rpc(user: User, name: str, **arguments: Any) -> Any:
    """Call an RPC as the user. Errors are FunctionError with what PostgREST said."""
    return await _call(name, settings.publishable_key(), user.token, json.dumps(arguments).encode())


async def service_rpc(name: str, **arguments: Any) -> Any:
    """Call an RPC as service_role. Errors as user_rpc(); 500 when the project's own key is refused."""
    return await service_rpc_raw(name, json.dumps(arguments).encode())


async def service_rpc_raw(name: str, body: bytes) -> Any:
    """Call an RPC whose one unnamed argument is the body as it is, JSON in UTF-8. Errors as service_rpc()."""
    key = settings.secret_key()
    try:
        return await _call(name, key, key, body)
    except FunctionError as error:
        raise _own_fault(error) from None


async def close() -> None:
    """End the connections, when the process is about to end."""
    await _pool().close()
    _pool.cache_clear()


def _own_fault(error: FunctionError) -> FunctionError:
    """What our own key may not do is no fault of the caller's."""
    if error.status in (401, 403):
        return FunctionError(
            500, f"Supabase refuses this function's secret key ({error.code}); set a valid one."
        )
    return error
