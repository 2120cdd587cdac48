"""scripts/setup: what it says, and that it does nothing when there is nothing to do."""

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.local.stack import StackError, postgres
from tests.support.projects import make_checkout
from tests.support.stack import ROOT

COMMANDS = ("bash", "env", "dirname", "cat", "sha256sum", "cut", "df", "awk", "rm", "mv", "mkdir", "chmod")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed yet."""
    make_checkout(tmp_path / "bare", installed=False)
    return tmp_path / "bare"


def tools(folder: Path, **fakes: str) -> str:
    """A PATH with the usual commands, and scripts in place of others."""
    folder.mkdir()
    for name in COMMANDS:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name, body in fakes.items():
        script = folder / name
        script.unlink(missing_ok=True)
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)
    return str(folder)


def setup(root: Path, path: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(root / "scripts" / "setup")], env={"PATH": path, "HOME": str(root)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


REAL_PYTHON = f'exec "{ROOT}/.venv/bin/python" "$@"'
FULL_DISK = "printf 'Filesystem 1024-blocks Used Available Capacity Mounted\\n/dev/x 100 50 50 50%% /\\n'"


@pytest.mark.parametrize(
    ("fakes", "words"),
    [
        ({}, ["Python 3.11", "install"]),
        ({"python3": "exit 1"}, ["Python 3.11", "install"]),
        ({"python3": 'case "$2" in *ensurepip*) exit 1;; esac'}, ["venv", "apt install python3-venv"]),
        ({"python3": REAL_PYTHON}, ["Node.js 18", "install"]),
        (
            {"python3": REAL_PYTHON, "node": "case $1 in -p) echo 16;; *) echo v16.1.0;; esac"},
            ["v16.1.0", "newer"],
        ),
        ({"python3": REAL_PYTHON, "node": "echo 20"}, ["npm", "install"]),
        (
            {"python3": REAL_PYTHON, "node": "echo 20", "npm": "exit 0", "df": FULL_DISK},
            ["2 GB", "make room"],
        ),
    ],
    ids=["no python", "old python", "no venv", "no node", "old node", "no npm", "full disk"],
)
def test_a_missing_prerequisite_is_one_clear_sentence(
    bare: Path, tmp_path: Path, fakes: dict[str, str], words: list[str]
) -> None:
    answer = setup(bare, tools(tmp_path / "bin", **fakes))
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    for word in words:
        assert word in line
    assert not (bare / ".venv").exists()


# `python -m venv` makes one whose Python installs nothing.
QUICK_PYTHON = f"""
case "$*" in
    "-m venv"*) mkdir -p .venv/bin; echo '#!/bin/sh' >.venv/bin/python; chmod +x .venv/bin/python;;
    *) {REAL_PYTHON};;
esac
"""
NPM = """
case "$1 $2" in
    "config get") echo "$HOME/.npm";;
    *) echo "$npm_config_cache" >cache; mkdir -p node_modules "${npm_config_cache:-$HOME/.npm}/_cacache/tmp";;
esac
"""


@pytest.mark.parametrize("kind", ["home", "no home", "absent home", "home of another", "cache of another"])
def test_npm_keeps_its_cache_where_it_may(bare: Path, tmp_path: Path, kind: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    locked = tmp_path / "locked"  # a file: nobody, root included, makes a folder in it
    locked.touch()
    variables = {
        "PATH": tools(tmp_path / "bin", python3=QUICK_PYTHON, node="echo 20", npm=NPM),
        "HOME": str(home),
    }
    match kind:
        case "no home":
            del variables["HOME"]
        case "absent home" | "home of another":
            variables["HOME"] = str(locked / "absent") if kind == "absent home" else str(locked)
        case "cache of another":
            (home / ".npm").mkdir()
            (home / ".npm" / "_cacache").touch()
    done = subprocess.run(
        [str(bare / "scripts" / "setup")],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = (bare / "cache").read_text().strip()
    assert told == ("" if kind in ("home", "no home") else str(bare / ".venv" / "npm"))
    assert not (bare / ".venv" / "npm").exists()  # and leaves nothing behind


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> int:
    """This process as one whose user id is in no passwd, such as `docker run --user 12345` makes."""
    names = {entry.pw_uid for entry in pwd.getpwall()}
    uid = next(number for number in range(12345, 60000) if number not in names)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP"):
        monkeypatch.delenv(name, raising=False)
    return uid


def test_a_user_without_a_name_is_told_what_to_install(
    nameless: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "NSS_WRAPPER", "libabsent_for_this_test.so")
    with pytest.raises(StackError) as caught:
        postgres._with_a_name(tmp_path)
    (line,) = str(caught.value).splitlines()
    for word in (str(nameless), "libnss-wrapper", "nobody"):
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_name_gets_one_for_initdb(
    nameless: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "NSS_WRAPPER", "libc.so.6")  # some library that is there
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    made = postgres._with_a_name(tmp_path)
    assert (made["LD_PRELOAD"], made["LD_LIBRARY_PATH"]) == ("libc.so.6", "/somewhere")
    name, _, uid, *_ = Path(made["NSS_WRAPPER_PASSWD"]).read_text().split(":")
    assert (name, uid) == ("postgres", str(nameless))
    assert Path(made["NSS_WRAPPER_GROUP"]).read_text().startswith("postgres:x:")


def test_a_name_that_a_container_gives_reaches_initdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP"):
        monkeypatch.delenv(name, raising=False)
    assert postgres._with_a_name(tmp_path) == {}
    given = {"LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_PASSWD": "/a", "NSS_WRAPPER_GROUP": "/b"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert postgres._with_a_name(tmp_path) == given


def test_nothing_to_do_does_nothing(tmp_path: Path) -> None:
    """It asks for no version, makes no environment and fetches nothing: none of these programs is run."""
    command = [str(ROOT / "scripts" / "setup")]
    subprocess.run(command, check=True)
    programs = ("node", "npm", "df", "python", "python3", "python3.11", "python3.12", "python3.13")
    path = tools(tmp_path / "bin", **dict.fromkeys(programs, f'echo "$0" >>"{tmp_path}/run"; exit 1'))
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
    assert not (tmp_path / "run").exists()


def test_lock_files_name_no_place() -> None:
    """No registry's address, no path of some machine: whoever installs decides where from."""
    for name in ("requirements.lock", "requirements-browser.lock", "package-lock.json"):
        # Where its authors ask for money is no place that anything comes from.
        content = re.sub(r'"funding": (\{[^}]*\}|\[[^\]]*\]|"[^"]*")', "", (ROOT / name).read_text())
        assert not re.search(r"https?://|file:|resolved|index-url|find-links", content), name
        assert not re.search(r"/(home|root|work|tmp|opt)/", content), name


def test_every_package_is_pinned_with_a_hash() -> None:
    entries = re.split(r"\n(?=[a-z])", (ROOT / "requirements.lock").read_text().split("\n", 2)[2])
    assert len(entries) > 30
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+(\[[a-z]+\])?==[^ ]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_npm_lock_names_the_binaries_of_every_platform() -> None:
    content = (ROOT / "package-lock.json").read_text()
    for package in ("cli-darwin-arm64", "cli-darwin-x64", "cli-linux-arm64", "cli-linux-x64"):
        assert f'"node_modules/@supabase/{package}"' in content


def test_scripts_are_executable() -> None:
    for name in ("scripts/setup", "scripts/stack", "scripts/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
