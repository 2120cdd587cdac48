"""A function's index.py as a module, for tests that serve it with something around it changed."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = (
    Path(__file__).resolve().parents[2]
)  # support.stack has it, and much that a served process does not need


def load(name: str) -> ModuleType:
    """A fresh copy of functions/NAME/index.py; its `app` is what is served."""
    spec = importlib.util.spec_from_file_location("index", ROOT / "functions" / name / "index.py")
    assert spec and spec.loader
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    return index
