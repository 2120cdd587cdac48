"""A browser, and an app in it that has the elements and a signed-in user."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import MissingError, browser
from tests.support.stack import ROOT, Env, User

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route

# One of the origins that the local stack sends people back to.
ORIGIN = "http://127.0.0.1:3000"
PAGES = Path(__file__).with_name("pages")
STATIC = ROOT / "functions" / "dashboard" / "static"
UMD = ROOT / "node_modules" / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    """One browser for all tests. Where none can be had the tests are skipped, but never in CI."""
    try:
        with browser() as started:
            yield started
    except MissingError as why:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(why))


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

    def open(self, body: str, *, path: str = "/", lang: str = "en", direction: str = "ltr") -> None:
        """Show the page, with these elements in it."""
        self.html = (
            f'<!doctype html><html lang="{lang}" dir="{direction}"><head><meta charset="utf-8"><title>App</title>'
            '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/app.css">'
            '<script src="/supabase.js"></script><script type="module" src="/app.js"></script></head>'
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


@pytest.fixture
def app(chromium: "Browser", env: Env) -> Iterator[Callable[..., App]]:
    """A factory of apps with a signed-in user, or none."""
    contexts: list[BrowserContext] = []

    def make(user: User | None = None, *, width: int = 1280, scheme: str = "light", **options: Any) -> App:
        options = {"locale": "en-US", "timezone_id": "Europe/Berlin", **options}
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            **options,  # type: ignore[arg-type]
        )
        contexts.append(context)
        context.set_default_timeout(20_000)
        page = context.new_page()
        made = App(context, page)
        page.on("console", lambda message: note(made, message))
        page.on("pageerror", lambda error: made.console.append(str(error)))
        session = None
        if user:
            got = user.client.auth.get_session()
            assert got
            session = {"access_token": got.access_token, "refresh_token": got.refresh_token}
        given = {"url": env.api_url, "key": env.publishable_key, "session": session}
        page.add_init_script(f"globalThis.given = {json.dumps(given)}")
        page.route(f"{ORIGIN}/**", lambda route: serve(made, route))
        return made

    yield make
    for context in contexts:
        context.close()


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
