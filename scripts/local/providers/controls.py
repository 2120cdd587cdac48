"""POST /_control/VERB, the server's side of control.py."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from . import faults as faulty
from .calls import Calls
from .faults import FaultError, Faults
from .runway import Runway

JSON = dict[str, Any]


def control_routes(
    calls: Calls, faults: Faults, runway: Runway, refuse: Callable[[float], None]
) -> list[web.RouteDef]:
    """The routes of the controls."""

    def fault(
        provider: str,
        kind: str,
        times: int | None = 1,
        on: str = "create",
        match: str | None = None,
        **options: Any,
    ) -> None:
        faults.add(faulty.make(provider, kind, times, on, match, options))

    def clear(provider: str | None = None) -> None:
        faults.clear(provider)

    def find(
        provider: str | None = None, kind: str | None = None, match: str | None = None, after: int = 0
    ) -> list[JSON]:
        return [call.json() for call in calls.find(provider, kind, match, after)]

    def tasks(**changes: Any) -> None:
        runway.pace = replace(runway.pace, **changes)

    def refusal(seconds: float) -> None:
        if not 0 < seconds <= 60:
            raise FaultError("seconds must be more than 0 and at most 60.")
        refuse(seconds)

    def reset() -> None:
        faults.clear()
        calls.clear()
        runway.reset()

    verbs: dict[str, Callable[..., Any]] = {
        "fault": fault, "clear": clear, "calls": find, "tasks": tasks, "refuse": refusal, "reset": reset,
    }  # fmt: skip

    async def control(request: web.Request) -> web.Response:
        verb = verbs.get(request.match_info["verb"])
        if verb is None:
            return web.json_response({"error": f"Controls are {', '.join(verbs)}."}, status=404)
        try:
            arguments = json.loads(await request.read() or b"{}")
            return web.json_response({"result": verb(**arguments)})
        except (FaultError, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return [web.post("/_control/{verb}", control)]
