"""Mounts functions/NAME/index.py at /functions/v1/NAME, as a deployed function would be."""

import importlib.util
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger("functions")


class Functions:
    """An ASGI app that loads each function at its first request. Its `app` sees paths below /NAME."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._apps: dict[str, ASGIApp] = {}
        os.environ.update(environment)
        if folder.is_dir():
            sys.path.insert(0, str(folder))  # for _shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface; the path starts with /NAME."""
        _, name, rest = (*scope["path"].split("/", 2), "")[:3]
        try:
            app = self._load(name)
        except Exception:
            log.exception("Function %s cannot be loaded", name)
            broken = {"code": "BOOT_ERROR", "message": "Function failed to start (please check logs)"}
            await JSONResponse(broken, 503)(scope, receive, send)
            return
        if app is None:
            missing = {"code": "NOT_FOUND", "message": "Requested function was not found"}
            await JSONResponse(missing, 404)(scope, receive, send)
            return
        await app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, send)

    def _load(self, name: str) -> ASGIApp | None:
        file = self.folder / name / "index.py"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or not file.is_file():
            return None
        if name not in self._apps:
            spec = importlib.util.spec_from_file_location(f"functions_{name.replace('-', '_')}", file)
            assert spec and spec.loader
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self._apps[name] = module.app
        return self._apps[name]
