"""What the pages show is run here, as it stands there."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest

from scripts.local.stack import Stack, ports
from scripts.local.stack.stack import Status
from supabase import Client, create_client
from tests.support import prepared
from tests.support.pages import (
    ALL,
    JS_CLIENT,
    JS_USER,
    PAGES,
    PYTHON_CLIENT,
    PYTHON_USER,
    ROOT,
    WEB_SOCKET,
    block,
    environment,
    fences,
    run_js,
    run_python,
    statements,
)
from tests.support.stack import Database, Env, User

CLIENTS, INSTALLING, FUNCTIONS = "README.md", "supabase/README.md", "functions/README.md"
SQL = "sql/README.md"


def test_the_two_commands() -> None:
    """tests/demo runs the first. Of the second this is a part; here, that it takes what pytest takes."""
    commands = [line.split("#")[0].strip() for line in block(CLIENTS, "sh", "./scripts/demo").splitlines()]
    assert commands == ["./scripts/demo", "./scripts/test"]
    here = "tests/docs/test_links.py"
    done = subprocess.run(
        [*commands[1:], "--collect-only", "-q", here], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and here in done.stdout, done.stdout + done.stderr


def test_what_the_functions_are_installed_with() -> None:
    """Each package that the page installs is one that the functions are tested with."""
    installed = block(FUNCTIONS, "sh", "pip install").splitlines()[0]
    names = re.findall(r"[a-z][a-z-]+", re.sub(r"\[\w+\]|[<>=]+[\d,<>=]+", "", installed))[2:]
    locked = (ROOT / "requirements.lock").read_text()
    assert {"starlette", "uvicorn", "stripe"} <= set(names)
    assert [name for name in names if not re.search(rf"^{name}(\[|==)", locked, re.MULTILINE)] == []


def test_supabase_js_snippet(env: Env) -> None:
    more = "\nconsole.log(history.map((row) => row.kind), asCsv.split('\\n')[0])\n"
    said = run_js(WEB_SOCKET + block(CLIENTS, "js", "quote_credits") + more, environment(env))
    assert "-6 4" in said
    assert "402 Not enough credits. { required: 50, available: 4, shortfall: 46 }" in said
    assert "\n1 6 []\n[ 'spend', 'grant' ] id,kind,amount\n" in said


def test_supabase_py_snippet(env: Env) -> None:
    more = "\nprint([row['kind'] for row in history], as_csv.splitlines()[0])\n"
    said = run_python(block(CLIENTS, "python", "quote_credits") + more, environment(env))
    assert "\n-6 4\n" in said
    assert "PT402 Not enough credits. {'required': 50, 'available': 4, 'shortfall': 46}" in said
    assert said.endswith("\n1 6 []\n['spend', 'grant'] id,kind,amount\n")


@pytest.mark.parametrize("language", ["js", "python"])
def test_usage_snippets(env: Env, user: Callable[..., User], language: str) -> None:
    ann = user()
    ann.client.rpc("consume_credits", {"operation": "stable_diffusion", "quantity": 2}).execute()
    variables = environment(env, EMAIL=ann.email, PASSWORD=ann.password)
    if language == "js":
        said = run_js(JS_USER + block(SQL, "js", "credit_usage"), variables)
    else:
        said = run_python(PYTHON_USER + block(SQL, "python", "credit_usage"), variables)
    assert said.splitlines() == [
        "Asia/Tokyo 30 6 0", "stable_diffusion 6", "spend -6 4", "grant 10 10", "1 bonus 4 10",
    ]  # fmt: skip


def test_operator_snippets(env: Env, user: Callable[..., User]) -> None:
    ann = user()
    variables = environment(env, USER_ID=ann.id)
    for said in (
        run_js(JS_CLIENT + block(INSTALLING, "js", "grant_credits"), variables),
        run_python(PYTHON_CLIENT + block(INSTALLING, "python", "grant_credits"), variables),
    ):
        amount, balance, size = map(int, said.split())
        assert (amount, balance) == (200, 210)  # the second finds what the first did
        assert size > 100


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_operator_commands(env: Env, user: Callable[..., User]) -> None:
    ann = user()

    def rpc(name: str, **arguments: object) -> Any:
        return ann.client.rpc(name, arguments).execute().data

    spend = rpc("consume_credits", operation="stable_diffusion")
    holds = [rpc("hold_credits", operation="stable_diffusion") for _ in range(2)]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block(INSTALLING, "sh", "rpc grant_credits")],
        env=environment(
            env,
            USER_ID=ann.id,
            ACCOUNT_ID=spend["account_id"],
            TRANSACTION_ID=spend["id"],
            HOLD_ID=holds[0]["id"],
            OTHER_HOLD_ID=holds[1]["id"],
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    decoder, answers, rest = json.JSONDecoder(), [], done.stdout
    while rest[:1] in ("{", "["):
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:].lstrip("\n")
    assert [answer for answer in answers if isinstance(answer, dict) and "code" in answer] == []
    purchase, promo, refund, capture, release, frozen, thawed, one_erased, erased, broken, failing = answers
    assert (purchase["amount"], promo["amount"], refund["amount"], capture["amount"]) == (200, 50, 2, -3)
    assert release["status"] == "released"
    assert frozen["frozen_at"] and not thawed["frozen_at"]
    assert (one_erased["id"], one_erased["metadata"]) == (spend["id"], {})
    assert erased == {"transactions": 2, "holds": 1, "open": 0}
    assert broken == failing == []
    assert rest.startswith("id,created_at,account_id,user_id,kind,amount")
    assert ann.client.table("user_credits").select("balance").execute().data == [
        {"balance": 10 - 3 + 250 + 2 - 3}
    ]


def test_price_statements(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        owner.execute("set role pricing_admin")
        for statement in statements(block(INSTALLING, "sql", "update pricing_tiers")):
            cursor = owner.execute(statement.encode())
            assert cursor.rowcount > 0, statement
        owner.execute("reset role")
        prices: dict[str, Any] = dict(
            owner.execute(
                "select o, (credits.price(o, 1)).credits from unnest(array["
                "'dalle3_image', 'cartoon_style', 'stable_diffusion', 'upscale', 'ghibli_style']) as o"
            ).fetchall()
        )
    assert prices == {"dalle3_image": 12, "cartoon_style": 6, "stable_diffusion": 3, "upscale": 2}


def test_plan_statements(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        owner.execute("set role pricing_admin")
        for statement in statements(block(FUNCTIONS, "sql", "insert into subscription_plans")):
            assert owner.execute(statement.encode()).rowcount == 1
        row = owner.execute(
            "select credits, rollover_cap, interval from public.subscription_plans"
        ).fetchone()
        assert row == (500, 100, "month")


@pytest.mark.parametrize("language", ["js", "python"])
def test_checkout_snippet(env: Env, user: Callable[..., User], language: str) -> None:
    """As ann in a browser, or as her app in Python; then a person pays, and the credits come."""
    ann = user()
    variables = environment(env, EMAIL=ann.email, PASSWORD=ann.password)

    def run(change: Callable[[str], str] = str) -> str:
        if language == "python":
            code = change(block(FUNCTIONS, "python", 'functions.invoke("checkout"'))
            return run_python(PYTHON_USER + code, variables)
        code = change(block(FUNCTIONS, "js", "functions.invoke('checkout'"))
        return run_js(f"{JS_USER}const location = {{}}\n{code}\nconsole.log(location.href)\n", variables)

    url = run().strip()
    session = re.search(r"cs_test_\w+", url)
    assert url.startswith("http") and session
    env.stripe_control().complete(session[0])
    env.stripe_control().settled(20)
    assert ann.client.table("user_credits").select("balance").execute().data == [{"balance": 210}]
    assert "There is no such package in that currency.\n" in run(lambda code: code.replace("popular", "none"))


@pytest.fixture
def with_providers() -> Iterator[Status]:
    """A stack of its own that has stand-ins for the providers."""
    stack = Stack(ROOT, f"docs-{os.getpid()}", ports.free_pair())
    try:
        prepared.start(stack, providers=True)
        yield stack.status()
    finally:
        stack.stop(delete=True)


def test_generate_snippets(with_providers: Status) -> None:
    variables = {**os.environ, **with_providers.env(), "PASSWORD": "correct horse battery"}
    js = JS_USER + block(FUNCTIONS, "js", "functions.invoke('generate'")
    python = PYTHON_USER + block(FUNCTIONS, "python", 'functions.invoke("generate"')

    def sign_up(email: str) -> dict[str, str]:
        client = create_client(with_providers.api_url, with_providers.publishable_key)
        client.auth.sign_up({"email": email, "password": variables["PASSWORD"]})
        return {**variables, "EMAIL": email}

    # The bonus of 10 does not do for two images.
    ann = sign_up("ann@example.com")
    assert run_js(js, ann) == run_python(python, ann) == "Not enough credits.\n"
    with psycopg.connect(with_providers.db_url, autocommit=True) as owner:
        owner.execute("update credits.billing_settings set signup_bonus = 50")
        owner.execute("update credits.provider_costs set output_image = null, cost_per_output = 0.04")
        bob = sign_up("bob@example.com")
        for said in (run_js(js, bob), run_python(python, bob)):
            lines = said.splitlines()
            assert [line.split()[1:] for line in lines] == [["1024", "1024"]] * 2
            for line in lines:
                assert httpx.get(line.split()[0], trust_env=False).content.startswith(b"\x89PNG")
        (row,) = owner.execute(block(FUNCTIONS, "sql", "credits.generation_margins").encode()).fetchall()
        assert (row[0], *row[2:]) == ("dalle3_image", 2, 40, Decimal("0.16"), 0, Decimal("250.0"))


def test_every_example_exists_for_both_clients() -> None:
    """What is called in one language is called in the other."""
    called = {
        language: set(
            re.findall(
                r"(?:rpc|table|from|invoke)\(\s*['\"](\w+)['\"]",
                "".join(fence.text for fence in fences() if fence.language == language),
            )
        )
        for language in ("js", "python")
    }
    assert called["js"] == called["python"] > {"consume_credits", "hold_credits", "checkout", "generate"}


def test_provider_rows(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        owner.execute("set role pricing_admin")
        for statement in statements(block(FUNCTIONS, "sql", "acme")):
            assert owner.execute(statement.encode()).rowcount == 1


def test_cost_statement(scratch_db: Database) -> None:
    with scratch_db.connect() as owner:
        owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        owner.execute("set role pricing_admin")
        assert owner.execute(block(FUNCTIONS, "sql", "introductory price").encode()).rowcount == 1


def test_terms_of_the_film(scratch_db: Database) -> None:
    """What the text says of it: 6 per second, 8 seconds, 4 more for each in 1080p."""
    with scratch_db.connect() as owner:
        owner.execute((ROOT / "supabase" / "seed.sql").read_bytes())
        owner.execute(re.sub(r"--.*", "", block(INSTALLING, "sql", "update pricing_tiers")).encode())
        for options, price in (
            ("{}", 48), ('{"resolution": "1080p"}', 80), ('{"duration": 4, "audio": "on"}', 36),
        ):  # fmt: skip
            query = "select (credits.generation_price('film', 1, %s, 0, false, 9)).amount"
            assert owner.execute(query, [options]).fetchone() == (price,)


def test_the_table_of_operations_is_the_seeds(db: "psycopg.Connection[Any]") -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([\w.-]+) \| ([\d, ]+) \|", PAGES[FUNCTIONS], re.MULTILINE)
    said = {
        (operation, model, price)
        for names, model, prices in rows
        for operation, price in zip(re.findall(r"\w+", names), prices.split(", "), strict=True)
    }
    found = db.execute(
        "select operation, model, trim_scale(credits_per_unit)::text from public.pricing_tiers "
        "where operation = any(%s)", [[row[0] for row in said]],
    ).fetchall()  # fmt: skip
    assert said == set(found) and len(said) == 8


def test_settings_statement(scratch_db: Database) -> None:
    found = re.findall(r"`(update credits\.billing_settings [^`]*)`", ALL)
    assert len(found) == 2
    with scratch_db.connect() as owner:
        for statement in found:
            assert owner.execute(statement.encode()).rowcount == 1
        owner.execute(
            "insert into auth.users (id, email, email_confirmed_at) "
            "values (gen_random_uuid(), 'ann@example.com', now())"
        )
        assert owner.execute("select balance from credit_accounts").fetchall() == [(25,)]


def test_it_says_what_the_seed_has(service: Client, db: "psycopg.Connection[Any]") -> None:
    page = PAGES[INSTALLING]
    paragraph = " ".join(page[page.index("The seed has eight operations") :].split("\n\n")[0].split())
    prices = db.execute("select operation, trim_scale(credits_per_unit)::text from pricing_tiers").fetchall()
    seeded = dict(re.findall(r"(\w+) (\d+)[,.]", paragraph.split(" And ")[0]))
    assert len(seeded) == 8
    assert set(seeded.items()) <= set(prices)
    packages = service.table("credit_packages").select("slug,credits,unit_amount").execute().data
    for package in packages:
        assert isinstance(package, dict)
        words = f"{package['slug']} {package['credits']:,}"
        price = f"for ${int(str(package['unit_amount'])) / 100:.2f}"
        assert re.search(rf"{words}( credits)? {re.escape(price)}", paragraph), words


def test_every_example_is_run() -> None:
    """A fenced block of code is one of those that the tests name; what is a picture has no language."""
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"""block\(\w+, "(\w+)", (?:"([^"]+)"|'([^']+)')\)""", code)
    for fence in fences():
        if fence.language:
            texts = [one or other for language, one, other in named if language == fence.language]
            assert any(text in fence.text for text in texts), fence
