"""What is released: the migrations that a git tag contains, and the version, whose tag is vX.Y.Z.

Databases have had the migrations of a release as they were. So those files stay as they are, and what is to
change is a new migration.
"""

import re
import subprocess
import tomllib
from pathlib import Path

from scripts.local.stack.errors import StackError

FOLDERS = ("supabase/migrations", "supabase/rollbacks")
RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


class UnknownError(Exception):
    """Nothing here tells what is released; the message says why, and what to do."""


def git(root: Path, *arguments: str) -> str:
    """What git prints. Raises StackError with its message, UnknownError where there is no git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UnknownError("There is no git on the PATH, so nothing tells what is released.") from None
    if done.returncode:
        raise StackError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def order(tag: str) -> tuple[int, ...]:
    """What releases are sorted by: v0.9.0 comes before v0.10.0, and other tags before both."""
    found = RELEASE.fullmatch(tag)
    return tuple(map(int, found.groups())) if found else ()


def tags(root: Path) -> list[str]:
    """All tags, releases last and the latest at the end, without those made later than what is checked out.

    Raises UnknownError where there is no repository, and in a shallow clone without tags.
    """
    if not (root / ".git").exists():
        raise UnknownError("This is no git repository, so nothing tells what is released; clone the project.")
    named = set(git(root, "tag", "--list").split())
    if not named and git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise UnknownError(
            "This is a shallow clone without tags, so nothing tells what is released; "
            "git fetch --tags brings them."
        )
    if named:
        head = commit(root, "HEAD")
        later = git(root, "tag", "--contains", head).split()
        named -= {tag for tag in later if commit(root, f"refs/tags/{tag}") != head}
    return sorted(named, key=lambda tag: (order(tag), tag))


def latest(root: Path) -> str | None:
    """The tag of the latest release, None before the first. Raises UnknownError as tags() does."""
    return next((tag for tag in reversed(tags(root)) if order(tag)), None)


def commit(root: Path, name: str) -> str:
    """The commit that a name stands for."""
    return git(root, "rev-parse", "--verify", f"{name}^{{commit}}").strip()


def files(root: Path, tag: str) -> dict[str, str]:
    """The migrations and rollbacks that a tag contains: the hash of each, by path."""
    listed = git(root, "ls-tree", "-r", "-z", "--full-tree", f"refs/tags/{tag}", "--", *FOLDERS)
    entries = [entry.split("\t", 1) for entry in listed.split("\0") if entry]
    return {path: about.split()[2] for about, path in entries}


def version(pyproject: str) -> str:
    """The version, from the text of pyproject.toml: nothing else says it."""
    return str(tomllib.loads(pyproject)["project"]["version"])


def broken(root: Path) -> list[str]:
    """Where migrations, rollbacks and the version are not what may come after the tags so far."""
    released: dict[str, tuple[str, str]] = {}
    for tag in reversed(tags(root)):
        released |= {path: (tag, digest) for path, digest in files(root, tag).items()}
    findings = []
    for path, (tag, digest) in sorted(released.items()):
        back = f"git checkout {tag} -- {path}, and write what is to change as a new migration."
        if not (root / path).is_file():
            findings.append(f"{path} is in {tag}, and gone or renamed here. Databases have had it: {back}")
        elif git(root, "hash-object", "--", path).strip() != digest:
            findings.append(f"{path} is not as it is in {tag}. Databases have had that: {back}")
    new = [
        path
        for path in sorted((root / FOLDERS[0]).glob("[0-9]*_*.sql"))
        if str(path.relative_to(root)) not in released
    ]
    # Databases with the last one take what sorts before it for older, and never apply it.
    last = max((Path(path).name for path in released if path.startswith(FOLDERS[0])), default="")
    findings += [
        f"{path.relative_to(root)} is new, but sorts before {last}, which is released: "
        "give it a later version."
        for path in new
        if path.name < last
    ]
    return findings + _version(root, bool(new))


def _version(root: Path, more: bool) -> list[str]:
    """Where the version is not that of the latest release, or a later one once there are more migrations."""
    tag, said = latest(root), version((root / "pyproject.toml").read_text())
    if tag is None:
        return []
    then = version(git(root, "show", f"refs/tags/{tag}:pyproject.toml"))
    if f"v{then}" != tag:
        return [f"pyproject.toml says {then} in {tag}: delete the tag, set the version, and tag that."]
    if order(f"v{said}") < order(tag) or (more and said == then):
        return [f"{tag} is released: raise the version in pyproject.toml, which says {said}."]
    return []
