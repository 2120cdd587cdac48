"""The pages, and how their examples are run: as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.stack import Env

ROOT = Path(__file__).resolve().parents[2]


class Fence(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


FOLDERS = ("supabase", "sql", "functions", "functions/dashboard", "scripts", "tests")


def names() -> list[str]:
    """Every page, by its path below the project."""
    folders = [ROOT, *(ROOT / name for name in FOLDERS)]
    return sorted(str(path.relative_to(ROOT)) for folder in folders for path in folder.glob("*.md"))


PAGES = {name: (ROOT / name).read_text() for name in names()}
ALL = "\n".join(PAGES.values())


def fences() -> list[Fence]:
    """Every fenced block of every page, in order."""
    return [
        Fence(page, language, text)
        for page, whole in PAGES.items()
        for language, text in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", whole, re.DOTALL | re.MULTILINE)
    ]


def block(page: str, language: str, containing: str) -> str:
    """The one fenced block of the page in that language with that text in it."""
    found = [
        fence.text
        for fence in fences()
        if (fence.page, fence.language) == (page, language) and containing in fence.text
    ]
    assert len(found) == 1, f"{page} has {len(found)} {language} blocks with {containing!r}"
    return found[0]


def statements(sql: str) -> list[str]:
    """The statements of a block, without its comments."""
    return list(filter(str.strip, re.sub(r"--.*", "", sql).split(";")))


def environment(env: Env, **more: object) -> dict[str, str]:
    """What the examples read: addresses, keys, and what a test adds."""
    addresses = {
        "API_URL": env.api_url,
        "DB_URL": env.db_url,
        "PUBLISHABLE_KEY": env.publishable_key,
        "SECRET_KEY": env.secret_key,
    }
    return {**os.environ, **addresses, **{name: str(value) for name, value in more.items()}}


# Browsers and Node from 19 on have it.
OLDER_NODE = "import { webcrypto } from 'node:crypto'\nglobalThis.crypto ??= webcrypto\n"


def run_js(code: str, variables: dict[str, str]) -> str:
    """What a module prints."""
    folder = ROOT / ".stack"  # below the project, so that node finds node_modules
    folder.mkdir(mode=0o700, exist_ok=True)
    script = folder / f"docs-{os.getpid()}.mjs"
    script.write_text(OLDER_NODE + code)
    try:
        done = subprocess.run(["node", script], env=variables, capture_output=True, text=True, timeout=60)
    finally:
        script.unlink()
    assert done.returncode == 0, done.stderr
    return done.stdout


# What a browser and Node from 22 on have by themselves.
WEB_SOCKET = "import ws from 'ws'\nglobalThis.WebSocket ??= ws\n"
JS_CLIENT = f"{WEB_SOCKET}import {{ createClient }} from '@supabase/supabase-js'\n"
JS_USER = (
    f"{JS_CLIENT}const supabase = createClient(process.env.API_URL, process.env.PUBLISHABLE_KEY)\n"
    "const { EMAIL: email, PASSWORD: password } = process.env\n"
    "await supabase.auth.signInWithPassword({ email, password })\n"
)
PYTHON_CLIENT = "import os, uuid\nfrom supabase import FunctionsHttpError, create_client\n"
PYTHON_USER = (
    f"{PYTHON_CLIENT}supabase = create_client(os.environ['API_URL'], os.environ['PUBLISHABLE_KEY'])\n"
    "who = {'email': os.environ['EMAIL'], 'password': os.environ['PASSWORD']}\n"
    "supabase.auth.sign_in_with_password(who)\n"
)


def run_python(code: str, variables: dict[str, str]) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
