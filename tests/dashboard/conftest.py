"""A browser, and an app in it that has the elements and a signed-in user."""

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.support.app_page import ORIGIN, App, note, serve
from tests.support.browser import MissingError, browser
from tests.support.stack import Env, User

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext


@pytest.fixture(scope="package")
def chromium() -> "Iterator[Browser]":
    """One browser for the tests of this folder. Where none can be had they are skipped, but never in CI.

    It ends with the folder: while Playwright runs, nothing else in the process may have an event loop.
    """
    try:
        with browser() as started:
            yield started
    except MissingError as why:
        if os.environ.get("CI") or os.environ.get("BROWSER_REQUIRED"):
            raise
        pytest.skip(str(why))


@pytest.fixture
def app(chromium: "Browser", env: Env) -> Iterator[Callable[..., App]]:
    """A factory of apps with a signed-in user, or none."""
    contexts: list[BrowserContext] = []

    def make(
        user: User | None = None,
        *,
        width: int = 1280,
        scheme: Literal["light", "dark"] = "light",
        **options: Any,
    ) -> App:
        options = {"locale": "en-US", "timezone_id": "Europe/Berlin", **options}
        context = chromium.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            **options,
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
