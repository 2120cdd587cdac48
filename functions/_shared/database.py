"""Postgres through supabase-py, with one pool of connections for the process, and another for events.

RPCs run as the user wherever a user acts, and with the secret key only where the design says service_role.
"""

import json
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from postgrest import AsyncPostgrestClient

from . import settings
from .errors import FunctionError, unavailable
from .tokens import User

# Longer than the database's own limit of 8 seconds, so that its answer is heard.
TIMEOUT = httpx.Timeout(15, connect=5)
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
            headers={"Retry-After": "5"} if status == 503 else None,
        )
    if status >= 500:
        return unavailable(AWAY)
    return FunctionError(500, f"Supabase answered with status {status} and no reason; check SUPABASE_URL.")


async def _raise_refusal(response: httpx.Response) -> None:
    """Raise before supabase-py drops the status."""
    if response.is_error:
        raise _refusal(response.status_code, await response.aread())


@lru_cache(maxsize=1)
def _pool() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=TIMEOUT,
        limits=httpx.Limits(max_connections=40, max_keepalive_connections=20),
        event_hooks={"response": [_raise_refusal]},
    )


def _client(key: str, token: str | None = None) -> AsyncPostgrestClient:
    headers = {"apikey": key, "Authorization": f"Bearer {token or key}"}
    return AsyncPostgrestClient(f"{settings.supabase_url()}/rest/v1", headers=headers, http_client=_pool())


async def _call(client: AsyncPostgrestClient, name: str, arguments: dict[str, Any]) -> Any:
    try:
        return (await client.rpc(name, arguments).execute()).data
    except httpx.TransportError:
        raise unavailable(AWAY) from None


async def user_rpc(user: User, name: str, **arguments: Any) -> Any:
    """Call an RPC as the user. Errors are FunctionError with what PostgREST said."""
    return await _call(_client(settings.publishable_key(), user.token), name, arguments)


async def service_rpc(name: str, **arguments: Any) -> Any:
    """Call an RPC as service_role. Errors as user_rpc(); 500 when the project's own key is refused."""
    try:
        return await _call(_client(settings.secret_key()), name, arguments)
    except FunctionError as error:
        raise _own_fault(error) from None


async def service_rpc_raw(name: str, body: bytes) -> Any:
    """Call an RPC whose one unnamed argument is the body as it is, JSON in UTF-8. Errors as service_rpc().

    Events come by the thousand: aiohttp takes a quarter of the processor time that httpx takes for a call.
    """
    key = settings.secret_key()
    headers = {"apikey": key, "Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = f"{settings.supabase_url()}/rest/v1/rpc/{name}"
    try:
        async with _event_pool().post(url, data=body, headers=headers) as answer:
            content = await answer.read()
    except (aiohttp.ClientError, TimeoutError):
        raise unavailable(AWAY) from None
    if not answer.ok:
        raise _own_fault(_refusal(answer.status, content))
    return json.loads(content)


@lru_cache(maxsize=1)
def _event_pool() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT.read, sock_connect=TIMEOUT.connect)
    return aiohttp.ClientSession(timeout=timeout, trust_env=True)


async def close() -> None:
    """End the connections, when the process is about to end."""
    await _pool().aclose()
    await _event_pool().close()


def _own_fault(error: FunctionError) -> FunctionError:
    """What our own key may not do is no fault of the caller's."""
    if error.status in (401, 403):
        return FunctionError(
            500, f"Supabase refuses this function's secret key ({error.code}); set a valid one."
        )
    return error
