"""The table of API endpoints: method and path, the parameters, and the function that answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .params import EXPAND, Fields

Handler = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Route:
    """One endpoint. Names in braces in the path become keyword arguments of the handler."""

    method: str
    path: str
    fields: Fields
    handler: Handler

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The names in the path, or None when it is another endpoint."""
        found = self._pattern().fullmatch(path) if method == self.method else None
        return found.groupdict() if found else None

    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))  # re caches these


ROUTES: list[Route] = []


def route(method: str, path: str, fields: Fields | None = None) -> Callable[[Handler], Handler]:
    """Register a handler: `handler(world, p, **names)` with `p` the parsed parameters."""

    def register(handler: Handler) -> Handler:
        expand = {} if method == "DELETE" else EXPAND
        ROUTES.append(Route(method, path, {**expand, **(fields or {})}, handler))
        return handler

    return register
