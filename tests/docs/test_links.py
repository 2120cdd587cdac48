"""The pages' links lead somewhere, and the files that they name are there."""

import re
from pathlib import Path

import pytest

from tests.support.pages import PAGES, ROOT, fences

FENCES = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)


def anchors(page: str) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCES.sub("", (ROOT / page).read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES)
def test_links(page: str) -> None:
    text = FENCES.sub("", PAGES[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(str(file.relative_to(ROOT))), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files(page: str) -> None:
    """What is written as code and begins with a folder of the project is a file or folder there."""
    folders = "sql|functions|scripts|supabase|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./*{{}},-]*)", PAGES[page]):
        wanted = re.sub(r"\{[^}]*\}|VERSION_NAME|NAME|DOMAIN|KIND|TASK", "*", name.rstrip("."))
        assert any(ROOT.glob(wanted.rstrip("/"))), f"{page}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_files_by_name_alone(page: str) -> None:
    there = {
        path.name
        for folder in ("sql", "functions", "scripts", "supabase", "tests")
        for path in (ROOT / folder).rglob("*")
    }
    named = re.findall(r"`(\w+\.(?:sql|py|toml))`", PAGES[page])
    assert [name for name in named if name not in there and name != "config.toml"] == []


def test_every_folder_is_on_the_map() -> None:
    """Who looks for something finds each folder with a line that says what is there."""
    for page, top, pattern in (
        ("sql/README.md", "sql", "*.sql"),
        ("sql/README.md", "functions/_shared", "*.py"),
        ("tests/README.md", "tests", "*.py"),
        ("scripts/README.md", "scripts", "*.py"),
    ):
        folders = {path.parent for path in (ROOT / top).rglob(pattern)} - {ROOT / top}
        for folder in folders:
            assert f"`{folder.relative_to(ROOT)}/`" in PAGES[page], f"{page}: {folder.relative_to(ROOT)}"


def test_what_calls_what_is_there() -> None:
    """Each name of the chains is a file of sql/, a function of Python or a folder of functions/."""
    (chains,) = (fence.text for fence in fences() if "finish_generation >" in fence.text)
    names = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", chains))
    there = {path.stem for path in (ROOT / "sql").rglob("*.sql")}
    python = "".join(path.read_text() for path in (ROOT / "functions").rglob("*.py"))
    assert [name for name in sorted(names - there) if f"def {name}(" not in python] == []


def test_each_page_can_be_reached_from_the_first() -> None:
    linked = {
        str(Path(target.partition("#")[0])) for target in re.findall(r"\]\(([^)\s]+)\)", PAGES["README.md"])
    }
    assert {page for page in PAGES if page != "README.md"} <= linked
