"""Which files of tests/ import which."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SUPPORT = "tests.support"


def between_tests(root: Path) -> list[str]:
    """What is wrong with the imports between files below tests/, and with fixtures in tests/support.

    A file may import tests/support, and a module of helpers that nobody else imports.
    """
    importers: dict[str, list[str]] = defaultdict(list)
    findings = []
    files = sorted((root / "tests").rglob("*.py"))
    modules = {_module(root, path): path for path in files}
    for path in files:
        name = str(path.relative_to(root))
        tree = ast.parse(path.read_text(), filename=name)
        for line, imported in sorted(_imported(tree, _package(root, path), modules)):
            last = imported.rpartition(".")[2]
            if last == "conftest" or last.startswith("test_"):
                findings.append(
                    f"{name}:{line} imports {imported}: move what both use to a file in tests/support "
                    "whose name says what it holds, or a fixture to the conftest.py of the folder above both."
                )
            elif not f"{imported}.".startswith(f"{SUPPORT}."):
                importers[imported].append(f"{name}:{line}")
        if path.parent == root / "tests" / "support":
            findings += [
                f"{name}:{line} is a fixture: move it to the conftest.py of the folder that uses it."
                for line in _fixtures(tree)
            ]
    for imported, places in sorted(importers.items()):
        if len({place.partition(":")[0] for place in places}) > 1:
            findings.append(f"{', '.join(places)} import {imported}: move it to tests/support.")
    return findings


def _module(root: Path, path: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _package(root: Path, path: Path) -> list[str]:
    return list(path.relative_to(root).parts[:-1])


def _imported(tree: ast.AST, package: list[str], modules: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """The line of each import of something below tests/, and the module that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            # `from tests.ledger import model` names a module, `from tests.support.clock import DAY` does not.
            inner = [f"{source}.{alias.name}" for alias in node.names]
            named = sorted({each if each in modules else source for each in inner})
        else:
            continue
        for name in named:
            if name.partition(".")[0] == "tests" and name != "tests":
                yield node.lineno, name


def _fixtures(tree: ast.AST) -> Iterator[int]:
    """The lines of functions that pytest.fixture decorates."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                if ast.unparse(called) in ("pytest.fixture", "fixture"):
                    yield node.lineno
