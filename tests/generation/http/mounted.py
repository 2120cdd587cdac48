"""functions/generate/index.py as a module, for tests that change what is around it."""

import importlib.util
from pathlib import Path
from types import ModuleType


def load() -> ModuleType:
    """A fresh copy of the module; its `app` is what is served."""
    file = Path(__file__).resolve().parents[3] / "functions" / "generate" / "index.py"
    spec = importlib.util.spec_from_file_location("generate_index", file)
    assert spec and spec.loader
    index = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(index)
    return index
