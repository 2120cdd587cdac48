"""A migration that a tag contains stays as it is; in scratch repositories with tags of their own."""

from pathlib import Path

import pytest

from scripts.checks import lint, releases
from scripts.local.stack.errors import StackError
from tests.support.projects import commit, git

MIGRATIONS, ROLLBACKS = (Path("supabase") / name for name in ("migrations", "rollbacks"))
FIRST, SECOND = "20260101000000_credits.sql", "20260201000000_add_teams.sql"


def write(root: Path, name: str, text: str = "select 1;\n") -> None:
    """A migration and its rollback."""
    for folder in (MIGRATIONS, ROLLBACKS):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / name).write_text(text)


def say(root: Path, version: str) -> None:
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose v0.1.0 has one migration."""
    made = tmp_path / "project"
    write(made, FIRST)
    say(made, "0.1.0")
    commit(made, "v0.1.0")
    return made


def test_what_is_as_it_was_released_is_fine(root: Path) -> None:
    assert releases.broken(root) == []
    say(root, "0.2.0")
    write(root, SECOND)
    assert releases.broken(root) == []
    commit(root, "v0.2.0")
    assert releases.broken(root) == []
    assert (releases.tags(root), releases.latest(root)) == (["v0.1.0", "v0.2.0"], "v0.2.0")


@pytest.mark.parametrize("folder", [MIGRATIONS, ROLLBACKS])
@pytest.mark.parametrize("committed", [False, True])
def test_an_edit_a_rename_and_a_deletion_are_found(root: Path, folder: Path, committed: bool) -> None:
    path = root / folder / FIRST

    def findings() -> list[str]:
        if committed:
            commit(root)
        return releases.broken(root)

    path.write_text("select 1; -- and a comment\n")
    assert findings() == [
        f"{folder}/{FIRST} is not as it is in v0.1.0. Databases have had that: "
        f"git checkout v0.1.0 -- {folder}/{FIRST}, and write what is to change as a new migration."
    ]
    # What it advises helps.
    git(root, "checkout", "v0.1.0", "--", f"{folder}/{FIRST}")
    assert findings() == []
    path.rename(path.with_name("20260101000000_ledger.sql"))
    assert any(f"{folder}/{FIRST} is in v0.1.0, and gone or renamed here." in line for line in findings())
    git(root, "checkout", "v0.1.0", "--", f"{folder}/{FIRST}")
    path.with_name("20260101000000_ledger.sql").unlink()
    assert findings() == []
    path.unlink()
    assert any(f"{folder}/{FIRST} is in v0.1.0, and gone or renamed here." in line for line in findings())


def test_the_first_release_that_has_it_counts(root: Path) -> None:
    """Edited, and released again, it is still not what databases have had."""
    write(root, FIRST, "select 2;\n")
    say(root, "0.2.0")
    commit(root, "v0.2.0")
    findings = releases.broken(root)
    assert len(findings) == 2
    assert all("is not as it is in v0.1.0." in line for line in findings)


def test_a_new_one_that_sorts_before_a_released_one_is_found(root: Path) -> None:
    write(root, "20251231235959_early.sql")
    say(root, "0.2.0")
    assert releases.broken(root) == [
        f"{MIGRATIONS}/20251231235959_early.sql is new, but sorts before {FIRST}, which is released: "
        "give it a later version."
    ]


def test_any_tag_counts_and_the_latest_release_is_by_number(root: Path) -> None:
    for version in ("0.9.0", "0.10.0"):
        say(root, version)
        commit(root, f"v{version}")
    write(root, SECOND)
    say(root, "0.11.0")
    commit(root, "tried-by-a-customer")
    assert releases.latest(root) == "v0.10.0"
    write(root, SECOND, "select 2;\n")
    assert len(releases.broken(root)) == 2
    assert all("is not as it is in tried-by-a-customer." in line for line in releases.broken(root))


def test_what_is_released_later_than_what_is_checked_out_does_not_count(root: Path) -> None:
    """As in a bisection."""
    write(root, SECOND)
    say(root, "0.2.0")
    commit(root, "v0.2.0")
    git(root, "checkout", "--quiet", "v0.1.0")
    assert releases.broken(root) == []
    assert releases.tags(root) == ["v0.1.0"]
    # A branch beside it that lacks a released migration does.
    git(root, "checkout", "--quiet", "-b", "beside")
    commit(root)
    assert len([line for line in releases.broken(root) if "is in v0.2.0, and gone" in line]) == 2


def test_the_version_is_that_of_the_latest_release_or_a_later_one(root: Path) -> None:
    write(root, SECOND)
    raise_it = "v0.1.0 is released: raise the version in pyproject.toml, which says "
    assert releases.broken(root) == [f"{raise_it}0.1.0."]
    say(root, "0.0.9")
    assert releases.broken(root) == [f"{raise_it}0.0.9."]
    say(root, "0.1.1")
    assert releases.broken(root) == []
    commit(root, "v0.2.0")
    assert releases.broken(root) == [
        "pyproject.toml says 0.1.1 in v0.2.0: delete the tag, set the version, and tag that."
    ]


def test_without_a_tag_there_is_nothing_to_hold(root: Path) -> None:
    git(root, "tag", "--delete", "v0.1.0")
    write(root, FIRST, "select 2;\n")
    assert (releases.broken(root), releases.latest(root)) == ([], None)


def test_a_shallow_clone_without_tags_says_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(root)
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--no-tags", f"file://{root}", str(shallow))
    (shallow / MIGRATIONS / FIRST).write_text("select 2;\n")
    with pytest.raises(releases.UnknownError, match="shallow clone without tags"):
        releases.broken(shallow)
    assert lint.run(shallow, ["released"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("skip  released")
    assert "git fetch --tags brings them." in said
    assert "1 skipped" in said
    # It does bring them.
    git(shallow, "fetch", "--quiet", "--tags")
    assert lint.run(shallow, ["released"]) == 1
    assert "is not as it is in v0.1.0." in capsys.readouterr().out


def test_a_shallow_clone_of_a_tag_is_held_to_it(root: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--branch=v0.1.0", f"file://{root}", str(shallow))
    assert releases.broken(shallow) == []
    (shallow / MIGRATIONS / FIRST).write_text("select 2;\n")
    assert len(releases.broken(shallow)) == 1


def test_a_folder_that_is_no_repository_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, FIRST)
    with pytest.raises(releases.UnknownError, match="This is no git repository"):
        releases.broken(tmp_path)
    commit(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(releases.UnknownError, match="no git on the PATH"):
        releases.broken(tmp_path)


def test_what_git_does_not_read_is_an_error(root: Path) -> None:
    (root / ".git" / "HEAD").write_text("nothing that git knows\n")
    with pytest.raises(StackError, match="git tag: fatal"):
        releases.broken(root)
