"""Mounts functions/NAME/index.py at /functions/v1/NAME, as a deployed function would be.

As hosted, a request needs a token of this project unless `[functions.NAME] verify_jwt` in
supabase/config.toml is false; then the function sees to it itself.
"""

import importlib.util
import logging
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .auth.errors import AuthError
from .auth.tokens import Tokens

log = logging.getLogger("functions")


class Functions:
    """An ASGI app that loads each function at its first request. Its `app` sees paths below /NAME."""

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str], tokens: Tokens) -> None:
        self.folder = folder
        self.config = config
        self.tokens = tokens
        self._apps: dict[str, tuple[ASGIApp, bool]] = {}
        os.environ.update(environment)
        if folder.is_dir():
            sys.path.insert(0, str(folder))  # for _shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface; the path starts with /NAME."""
        _, name, rest = (*scope["path"].split("/", 2), "")[:3]
        try:
            loaded = self._load(name)
        except Exception:
            log.exception("Function %s cannot be loaded", name)
            broken = {"code": "BOOT_ERROR", "message": "Function failed to start (please check logs)"}
            await JSONResponse(broken, 503)(scope, receive, send)
            return
        if loaded is None:
            missing = {"code": "NOT_FOUND", "message": "Requested function was not found"}
            await JSONResponse(missing, 404)(scope, receive, send)
            return
        app, verify_jwt = loaded
        refusal = self._refusal(Request(scope)) if verify_jwt and scope["method"] != "OPTIONS" else None
        if refusal:
            await JSONResponse(refusal, 401)(scope, receive, send)
            return
        await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)

    def _refusal(self, request: Request) -> dict[str, str] | None:
        """What a hosted project answers when the token is missing or not its own; None when all is well."""
        if not request.headers.get("authorization"):
            return {"code": "UNAUTHORIZED_NO_AUTH_HEADER", "message": "Missing authorization header"}
        try:
            self.tokens.claims(request)
        except (AuthError, RecursionError):
            return {"code": "UNAUTHORIZED_INVALID_JWT_FORMAT", "message": "Invalid JWT"}
        return None

    def _verify_jwt(self, name: str) -> bool:
        """`[functions.NAME] verify_jwt`; true when nothing is said, as hosted."""
        try:
            sections = tomllib.loads(self.config.read_text()).get("functions", {})
        except FileNotFoundError:
            sections = {}
        return sections.get(name, {}).get("verify_jwt", True) is not False

    def _load(self, name: str) -> tuple[ASGIApp, bool] | None:
        """The function's `app`, and whether it is for tokens of this project only."""
        file = self.folder / name / "index.py"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or not file.is_file():
            return None
        if name not in self._apps:
            spec = importlib.util.spec_from_file_location(f"functions_{name.replace('-', '_')}", file)
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._apps[name] = module.app, self._verify_jwt(name)
        return self._apps[name]
