"""The function generate as an ASGI app for the benchmark: as it is deployed, but straight to PostgREST.

Run by uvicorn, with the environment of the functions and POSTGREST_URL.
"""

import importlib.util
from pathlib import Path

from . import straight

FILE = Path(__file__).resolve().parents[2] / "functions" / "generate" / "index.py"

straight.install()
spec = importlib.util.spec_from_file_location("generate_index", FILE)
assert spec and spec.loader
index = importlib.util.module_from_spec(spec)
spec.loader.exec_module(index)
app = index.app
