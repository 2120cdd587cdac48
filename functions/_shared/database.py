"""Postgres through supabase-py, with one pool of connections for the process.

RPCs run as the user wherever a user acts, and with the secret key only where the design says service_role.
"""

import json
from functools import lru_cache
from typing import Any

import aiohttp
import httpx
from postgrest import AsyncPostgrestClient, AsyncRPCFilterRequestBuilder

from supabase import AsyncClient, AsyncClientOptions

from . import settings
from .errors import FunctionError, unavailable
from .pool import connections
from .tokens import User
from .transport import Client, Transport

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


async def _check(response: httpx.Response) -> None:
    """Raise FunctionError for an answer that is an error, or that is no JSON.

    The client's own errors do not tell the status, and it takes what is no JSON for a text.
    """
    content = await response.aread()
    if not response.is_success:
        raise _refusal(response.status_code, content)
    try:
        json.loads(content or "null")
    except ValueError:
        raise FunctionError(
            500, f"Supabase answered with status {response.status_code} and no JSON; check SUPABASE_URL."
        ) from None


@lru_cache(maxsize=1)
def _session() -> aiohttp.ClientSession:
    """The one pool of connections, which all clients here share."""
    return connections(settings.supabase_url(), TIMEOUT)


@lru_cache(maxsize=1)
def _http() -> Client:
    """Redirects are not followed: the key that a call goes with is for the project alone."""
    return Client(transport=Transport(_session()), event_hooks={"response": [_check]}, follow_redirects=False)


@lru_cache(maxsize=1)
def _service(url: str, key: str) -> AsyncClient:
    return AsyncClient(url, key, AsyncClientOptions(httpx_client=_http()))


def _service_client() -> AsyncClient:
    """The client with the secret key."""
    return _service(settings.supabase_url(), settings.secret_key())


def _user_client(user: User) -> AsyncPostgrestClient:
    """A client that has this user's token, for one call: no other call can find it there.

    It is the part of an AsyncClient that calls Postgres. The rest of one takes half as long as the call.
    """
    headers = {"apikey": settings.publishable_key(), "Authorization": f"Bearer {user.token}"}
    return AsyncPostgrestClient(f"{settings.supabase_url()}/rest/v1", headers=headers, http_client=_http())


async def _result(call: AsyncRPCFilterRequestBuilder) -> Any:
    try:
        return (await call.execute()).data
    except httpx.RequestError:
        raise unavailable(AWAY) from None
    except ValueError:
        # Half a character such as "\ud800", or a number that is none: PGRST102 is PostgREST's code for it.
        raise FunctionError(400, "What was sent cannot be written as JSON.", code="PGRST102") from None


async def user_rpc(user: User, name: str, **arguments: Any) -> Any:
    """Call an RPC as the user. Errors are FunctionError with what PostgREST said."""
    return await _result(_user_client(user).rpc(name, arguments))


async def service_rpc(name: str, **arguments: Any) -> Any:
    """Call an RPC as service_role. Errors as user_rpc(); 500 when the project's own key is refused."""
    try:
        return await _result(_service_client().rpc(name, arguments))
    except FunctionError as error:
        raise _own_fault(error) from None


async def service_rpc_raw(name: str, body: bytes) -> Any:
    """Call an RPC whose one unnamed argument is the body as it is, JSON in UTF-8. Errors as service_rpc().

    The client's rpc() would write it anew, and numbers not always as they were.
    """
    postgrest = _service_client().postgrest
    headers = {**postgrest.headers, "Content-Type": "application/json"}
    try:
        url = str(postgrest.base_url.joinpath("rpc", name))
        response = await postgrest.session.post(url, content=body, headers=headers)
    except httpx.RequestError:
        raise unavailable(AWAY) from None
    except FunctionError as error:
        raise _own_fault(error) from None
    return json.loads(response.content or "null")


async def close() -> None:
    """End the connections, when the process is about to end."""
    if _session.cache_info().currsize:
        await _session().close()
    for kept in (_session, _http, _service):
        kept.cache_clear()


def _own_fault(error: FunctionError) -> FunctionError:
    """What our own key may not do is no fault of the caller's."""
    if error.status in (401, 403):
        return FunctionError(
            500, f"Supabase refuses this function's secret key ({error.code}); set a valid one."
        )
    return error
