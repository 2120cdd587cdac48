"""A real browser for tests: Chromium from a package of npm, driven by Playwright. No apt, root or not."""

import ctypes.util
import fcntl
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.stack import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PACKAGE = ROOT / "node_modules" / "@sparticuz" / "chromium"
# Decompressed by Node, which has brotli; Python has not.
UNPACK = """
const [from, to] = process.argv.slice(1)
require('stream').pipeline(
  require('fs').createReadStream(from), require('zlib').createBrotliDecompress(),
  require('fs').createWriteStream(to), (error) => process.exit(error ? 1 : 0))
"""


class MissingError(Exception):
    """There is no browser here; the message says what to do."""


def _unbrotli(source: Path, target: Path) -> None:
    subprocess.run(["node", "-e", UNPACK, str(source), str(target)], check=True)


def unpacked() -> Path:
    """The folder of the unpacked browser, by version, so that a new version is not taken for an old one."""
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    parent = ROOT / ".venv"  # beside what else was installed, and deleted with it
    folder = parent / f"chromium-{version}"
    with (parent / "chromium.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=parent, prefix="chromium-") as made:
            new = Path(made) / "new"
            new.mkdir()
            _unbrotli(PACKAGE / "bin" / "chromium.br", new / "chromium")
            (new / "chromium").chmod(0o755)
            for name in ("al2023", "fonts", "swiftshader"):
                archive = Path(made) / f"{name}.tar"
                _unbrotli(PACKAGE / "bin" / f"{name}.tar.br", archive)
                with tarfile.open(archive) as tar:
                    tar.extractall(new, filter="data")
            new.rename(folder)
    return folder


def executable() -> tuple[str, dict[str, str]]:
    """The program, CHROMIUM or the package's, and what its environment needs. Or MissingError."""
    given = os.environ.get("CHROMIUM")
    if given:
        if not Path(given).is_file():
            raise MissingError(f"CHROMIUM is {given}, and there is no such file.")
        return given, {}
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise MissingError("The tests in a browser need Linux on x86-64, or CHROMIUM=/path/to/chromium.")
    if not PACKAGE.is_dir() or not shutil.which("node"):
        raise MissingError(
            "The tests in a browser need `scripts/setup --tests`, or CHROMIUM=/path/to/chromium."
        )
    folder = unpacked()
    environment = {}
    if not ctypes.util.find_library("nss3"):
        environment["LD_LIBRARY_PATH"] = str(folder / "lib")
    if not Path("/usr/share/fonts").is_dir() or not any(Path("/usr/share/fonts").rglob("*.[to]tf")):
        environment["FONTCONFIG_FILE"] = str(_fonts(folder))
    return str(folder / "chromium"), environment


def _fonts(folder: Path) -> Path:
    """A configuration that finds the package's fonts where they are."""
    file = folder / "fonts.conf"
    if not file.exists():
        new = file.with_suffix(f".{os.getpid()}")
        new.write_text(
            f"<fontconfig><dir>{folder / 'fonts'}</dir>"
            f"<cachedir>{folder / 'fontcache'}</cachedir></fontconfig>"
        )
        new.rename(file)
    return file


@contextmanager
def browser() -> "Iterator[Browser]":
    """Chromium, started and ended. MissingError when it cannot be had here."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingError("The tests in a browser need `scripts/setup --tests`.") from None
    program, environment = executable()
    options: dict[str, Any] = {"executable_path": program, "env": {**os.environ, **environment}}
    # Chromium's sandbox refuses to run as root. Everything else is as users have it.
    if os.geteuid() == 0:
        options["args"] = ["--no-sandbox"]
    with sync_playwright() as driver:
        started = driver.chromium.launch(**options)
        try:
            yield started
        finally:
            started.close()
