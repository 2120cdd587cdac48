"""A page of an app in a browser, with the elements in it: what it shows, and what the browser says of it."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.stack import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route

# One of the origins that the local stack sends people back to.
ORIGIN = "http://127.0.0.1:3000"
PAGES = ROOT / "tests" / "dashboard" / "pages"
STATIC = ROOT / "functions" / "dashboard" / "static"
UMD = ROOT / "node_modules" / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def answer(route: "Route", body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    """Answer in place of the stack, to any origin."""
    route.fulfill(
        status=status,
        headers={
            "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*",
            "Access-Control-Allow-Methods": "*", "Access-Control-Expose-Headers": "*",
            "Content-Type": "application/json", **(headers or {}),
        },
        body=json.dumps(body),
    )  # fmt: skip


@dataclass
class App:
    """A page of an app, and what the browser had to say about it."""

    context: "BrowserContext"
    page: "Page"
    console: list[str] = field(default_factory=list)
    html: str = ""

    def table(self, name: str, rows: Any, status: int = 200) -> None:
        """Answer for a table, view or RPC from now on."""
        self.page.route(
            re.compile(rf"/rest/v1/(rpc/)?{name}(\?|$)"),
            lambda route: answer(route, {} if route.request.method == "OPTIONS" else rows, status),
        )

    def bundle(self, entry: Path, aliases: Mapping[str, str], folder: Path) -> None:
        """Serve /bundle.js, made from an entry by esbuild. In `aliases` are packages in place of others."""
        made = folder / "bundle.js"
        subprocess.run(
            ["node", "bundle.mjs", str(entry), str(made), json.dumps(aliases)], cwd=PAGES, check=True
        )
        self.page.route(
            "**/bundle.js", lambda route: route.fulfill(content_type="text/javascript", path=made)
        )

    def open(
        self, body: str, *, path: str = "/", lang: str = "en", direction: str = "ltr",
        script: str = "/app.js",
    ) -> None:  # fmt: skip
        """Show the page, with these elements in it."""
        self.html = (
            f'<!doctype html><html lang="{lang}" dir="{direction}"><head><meta charset="utf-8">'
            '<title>App</title><meta name="viewport" content="width=device-width">'
            '<link rel="stylesheet" href="/app.css">'
            '<script src="/supabase.js"></script>'
            f'<script type="module" src="{script}"></script></head>'
            f"<body><main><h1>App</h1>{body}</main></body></html>"
        )
        self.page.goto(ORIGIN + path)
        try:
            self.page.wait_for_function("globalThis.ready")
        except Exception:
            print(*self.console, sep="\n")
            raise

    def violations(self) -> list[str]:
        """What axe finds, a line each."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("tags => axe.run(document, {runOnly: tags}).then(r => r.violations)", TAGS)
        return [
            f"{item['id']}: {node['html']} {node['failureSummary']}"
            for item in found
            for node in item["nodes"]
        ]


def note(app: App, message: "ConsoleMessage") -> None:
    """Keep what the browser says of errors."""
    if message.type in ("error", "warning"):
        app.console.append(message.text)


def serve(app: App, route: "Route") -> None:
    """The files of the app, and at every other path its page."""
    path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
    file = UMD if path == "/supabase.js" else PAGES / path[1:]
    if path.startswith("/static/"):
        file = STATIC / path.removeprefix("/static/")
    if not file.is_file():
        route.fulfill(content_type="text/html", body=app.html)
        return
    route.fulfill(content_type=TYPES[file.suffix], body=file.read_bytes())
