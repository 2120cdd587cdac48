"""The pages' links lead somewhere, and the files that they name are there."""

import re
from pathlib import Path

import pytest

from tests.support.pages import PAGES, ROOT

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
        wanted = re.sub(r"\{[^}]*\}|\bNAME\b", "*", name.rstrip("."))
        assert any(ROOT.glob(wanted.rstrip("/"))), f"{page}: {name}"


def test_each_page_can_be_reached_from_the_first() -> None:
    linked = {
        str(Path(target.partition("#")[0])) for target in re.findall(r"\]\(([^)\s]+)\)", PAGES["README.md"])
    }
    assert {page for page in PAGES if page != "README.md"} <= linked
