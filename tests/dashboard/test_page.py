"""The page that stands by itself: its headers, its sign-in, and that nothing of a user is left."""

import asyncio
import gzip
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import credit_samples as samples
from tests.support.app_page import App, answer
from tests.support.function_module import load
from tests.support.pages import block
from tests.support.stack import ROOT, Env, User

Make = Callable[..., App]
STATIC = ROOT / "functions" / "dashboard" / "static"


def page_of(made: App, env: Env) -> str:
    """Open the page; returns its address."""
    address = f"{env.functions_url}/dashboard"
    made.page.goto(address)
    made.page.get_by_role("heading", name="Sign in").wait_for()
    return address


def sign_in(made: App, owner: User) -> None:
    """With the password."""
    made.page.get_by_label("E-mail", exact=True).fill(owner.email)
    made.page.get_by_label("Password").fill(owner.password)
    made.page.get_by_role("button", name="Sign in").click()
    made.page.get_by_role("heading", name="History").wait_for()


def test_headers_and_files(env: Env) -> None:
    page = httpx.get(f"{env.functions_url}/dashboard")
    policy = page.headers["content-security-policy"]
    socket = env.api_url.replace("http", "ws", 1)
    assert policy == (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src {env.api_url} {socket}; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types lit-html"
    )
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    for path in ("?file=page.js", "?file=page.css", "/credits.js", "/strings/de.js"):
        file = httpx.get(f"{env.functions_url}/dashboard{path}")
        assert file.status_code == 200
        again = httpx.get(
            f"{env.functions_url}/dashboard{path}", headers={"If-None-Match": file.headers["etag"]}
        )
        assert again.status_code == 304
    for path in ("?file=../index.py", "/index.py", "?file=/etc/passwd", "?file=..%2findex.py"):
        assert httpx.get(f"{env.functions_url}/dashboard{path}").status_code == 404
    assert httpx.post(f"{env.functions_url}/dashboard").status_code == 405


def test_no_answer_holds_a_secret(env: Env) -> None:
    files = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()]
    answers = [httpx.get(f"{env.functions_url}/dashboard").text]
    answers += [httpx.get(f"{env.functions_url}/dashboard/{file}").text for file in files]
    for text in answers:
        for secret in (env.secret_key, env.service_role_key, env.jwt_secret):
            assert secret not in text
        assert not re.search(r"sb_secret_\w|sk_(test|live)_|whsec_|sourceMappingURL", text)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, env: Env) -> Callable[[str], httpx.Response]:
    """What the function answers at its address with a key of the test's choice."""

    async def get(app: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://f") as client:
            return await client.get("/")

    def answer_with(key: str) -> httpx.Response:
        for name in ("SUPABASE_PUBLISHABLE_KEYS", "SUPABASE_ANON_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SUPABASE_URL", env.api_url)
        monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", key)
        # In a thread: the browser's driver has an event loop in this one.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, get(load("dashboard").app)).result()

    return answer_with


def test_the_page_is_not_served_with_a_secret_key(served: Callable[[str], httpx.Response], env: Env) -> None:
    for key in (env.secret_key, env.service_role_key):
        refused = served(key)
        assert refused.status_code == 500
        assert key not in refused.text
    for key in (env.publishable_key, env.anon_key):
        assert served(key).status_code == 200


def test_the_key_is_escaped(served: Callable[[str], httpx.Response]) -> None:
    page = served('"><script>1</script>').text
    assert "<script>1" not in page


def test_under_the_policy_nothing_is_blocked(app: Make, user: Callable[..., User], env: Env) -> None:
    """From sign-in to sign-out: no message in the console, no token in an address."""
    owner = user()
    made = app()
    addresses: list[str] = []
    made.page.on("framenavigated", lambda frame: addresses.append(frame.url))
    address = page_of(made, env)
    sign_in(made, owner)
    made.page.get_by_role("button", name="7 days").click()
    made.page.get_by_role("button", name="Buy credits").click()
    made.page.get_by_role("button", name="Buy Starter").wait_for()
    made.page.keyboard.press("Escape")
    with made.page.expect_navigation():
        made.page.get_by_role("button", name="Sign out").click()
    made.page.get_by_role("heading", name="Sign in").wait_for()
    assert made.page.evaluate("Object.keys(localStorage)") == []
    assert made.console == []
    assert set(addresses) == {address}


def test_the_next_user_sees_nothing_of_the_last(app: Make, user: Callable[..., User], env: Env) -> None:
    first, second = user(), user()
    first.client.rpc("consume_credits", {"operation": "stable_diffusion"}).execute()
    made = app()
    page_of(made, env)
    sign_in(made, first)
    made.page.get_by_text("Stable diffusion").first.wait_for()
    with made.page.expect_navigation():
        made.page.get_by_role("button", name="Sign out").click()
    sign_in(made, second)
    made.page.locator("credits-balance [part=number]").get_by_text("10", exact=True).wait_for()
    assert made.page.locator("credits-history [part=row]").get_by_text("Stable diffusion").count() == 0
    assert first.email not in made.page.locator("credits-page").inner_html()


def test_a_wrong_password_is_told(app: Make, user: Callable[..., User], env: Env) -> None:
    owner = user()
    made = app()
    page_of(made, env)
    made.page.get_by_label("E-mail", exact=True).fill(owner.email)
    made.page.get_by_label("Password").fill("wrong")
    made.page.get_by_role("button", name="Sign in").click()
    made.page.get_by_role("alert").get_by_text("That did not work.").wait_for()


def test_a_code_from_an_e_mail_signs_in(app: Make, user: Callable[..., User], env: Env) -> None:
    """Auth's part is played here: the local one sends no e-mail."""
    owner = user()
    session = owner.client.auth.get_session()
    assert session
    made = app()
    page_of(made, env)
    asked: list[Any] = []

    def play(route: Any, body: Any) -> None:
        if route.request.method != "OPTIONS":
            asked.append(route.request.post_data_json)
        answer(route, body)

    made.page.route("**/auth/v1/otp*", lambda route: play(route, {}))
    made.page.route("**/auth/v1/verify*", lambda route: play(route, session.model_dump(mode="json")))
    made.page.get_by_role("button", name="E-mail me a code instead").click()
    made.page.get_by_label("E-mail", exact=True).fill(owner.email)
    made.page.get_by_role("button", name="Send code").click()
    made.page.get_by_label("Code from the e-mail").fill("123456")
    made.page.get_by_role("button", name="Sign in").click()
    made.page.get_by_role("heading", name="History").wait_for()
    assert asked[0]["create_user"] is False
    assert (asked[1]["token"], asked[1]["type"]) == ("123456", "email")


GUIDE = "functions/dashboard/README.md"


def test_the_examples(app: Make, user: Callable[..., User]) -> None:
    """Both of the guide, with the test's addresses in them."""
    made = app(user())
    script, element, code = re.split(
        r"(?=<credits)|<script type=.module.>\n", block(GUIDE, "html", "credits.js")
    )
    assert "/functions/v1/dashboard/credits.js" in script
    made.open("<div id=place></div>")
    made.page.evaluate("html => { document.querySelector('#place').innerHTML = html }", element)
    made.page.evaluate(f"const supabase = client; {code.replace('</script>', '')}")
    number = made.page.locator("credits-balance [part=number]")
    number.get_by_text("10", exact=True).wait_for()
    spending = block(GUIDE, "js", "createCredits")
    imported = "const { createCredits } = await import('/static/credits.js')"
    spending = re.sub(r"import .*", imported, spending, count=1)
    said: list[str] = []
    made.page.on("console", lambda message: said.append(message.text))
    made.page.evaluate(f"async () => {{ const supabase = client; {spending} }}")
    number.get_by_text("4", exact=True).wait_for()
    assert said[-1] == "-6"


FRAMEWORKS = {
    "react-19": ({}, "react.jsx"),
    "react-18": ({"react": "react-18", "react-dom": "react-dom-18"}, "react.jsx"),
    "vue": ({"vue": "vue/dist/vue.esm-bundler.js"}, "vue.js"),
    "svelte": ({}, "svelte.js"),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_shows_a_balance(app: Make, user: Callable[..., User], tmp_path: Path, name: str) -> None:
    """The elements as each framework's users write them, bundled by esbuild."""
    aliases, entry = FRAMEWORKS[name]
    made = app(user())
    made.bundle(ROOT / "tests" / "dashboard" / "pages" / entry, aliases, tmp_path)
    made.table("credit_packages", samples.PACKAGES)
    made.open('<div id="root"></div>', script="/bundle.js")
    made.page.locator("credits-balance [part=number]").get_by_text("10", exact=True).wait_for()
    made.page.get_by_role("button", name="Buy credits").click()
    made.page.get_by_text("The shop opens.").wait_for()
    if name.startswith("react"):
        made.page.get_by_text("Hook: 10").wait_for()
    assert [line for line in made.console if "WebSocket" not in line] == []


BUDGETS = {"credits-balance.js": 10_000, "credits.js": 25_000, "page.js": 95_000}


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets(name: str) -> None:
    """Bytes over the line, with gzip."""
    assert len(gzip.compress((STATIC / name).read_bytes(), 9)) <= BUDGETS[name]
