"""Two ASGI apps in one process, for the benchmark: /ours is the function stripe-webhook as it is deployed,
/bare only verifies the signature and inserts the raw event, by the same client library.

Run by uvicorn, with the environment of the functions and POSTGREST_URL.
"""

import importlib.util
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount

from _shared import database, settings
from _shared.app import function, read_body
from _shared.payments.signature import is_signed

from . import straight

FILE = Path(__file__).resolve().parents[2] / "functions" / "stripe-webhook" / "index.py"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("stripe_webhook", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ours = _load()
straight.install()


async def bare(request: Request) -> JSONResponse:
    """Signature, INSERT, answer."""
    body = await read_body(request, ours.BODY_LIMIT)
    header = request.headers.get("stripe-signature", "")
    if not is_signed(body.decode(), header, settings.webhook_secrets()):
        return JSONResponse({}, 400)
    await database.service_rpc_raw("bench_insert_event", body)
    return JSONResponse({"received": True})


app = Starlette(routes=[Mount("/ours", ours.app), Mount("/bare", function(bare))])
