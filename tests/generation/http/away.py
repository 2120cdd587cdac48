"""The function generate with a storage that does not answer some calls. For tests only.

AWAY names the calls of _shared.generation.storage, AWAY_WHILE a file: while it exists, they fail. One
that is named *.once goes with the first of them.
"""

import os
from pathlib import Path
from typing import Any

from _shared.errors import unavailable
from _shared.generation import storage
from tests.support import function_module

FILE = Path(os.environ["AWAY_WHILE"])


def is_away() -> bool:
    """Whether a call fails now."""
    away = FILE.exists()
    if FILE.suffix == ".once":
        FILE.unlink(missing_ok=True)
    return away


def make_absent(name: str) -> None:
    """Let a function of the storage fail as it does when nothing answers."""
    function = getattr(storage, name)

    async def call(*args: Any) -> Any:
        if is_away():
            raise unavailable(storage.AWAY)
        return await function(*args)

    setattr(storage, name, call)


for each in os.environ["AWAY"].split(","):
    make_absent(each)
app = function_module.load("generate").app
