"""Refusing a WebSocket."""

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected


async def refuse_websocket(
    scope: Scope, receive: Receive, send: Send, status: int, message: str, hint: str | None = None
) -> None:
    """Answer the handshake with a status and a sentence."""
    refusal = {"message": message, **({"hint": hint} if hint else {})}
    await JSONResponse(refusal, status)(scope, receive, send)
    # All is said. Returning, uvicorn would miss a handshake, log an error and try to answer 500.
    raise ClientDisconnected
