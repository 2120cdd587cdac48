"""The function generate in a process that kills itself at the point that KILL_AT names. For tests only.

Points are STEP:before and STEP:after, where a step is a call that leaves the process.
"""

import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

from _shared.generation import calls, jobs, storage
from tests.support import function_module

STEP, _, WHEN = os.environ["KILL_AT"].partition(":")


def make_fragile(module: ModuleType, name: str, step: Callable[..., str]) -> None:
    """Make a function of a module deadly. `step` names the step that a call is, from its arguments."""
    function = getattr(module, name)

    async def call(*args: Any, **kwargs: Any) -> Any:
        here = step(*args, **kwargs) == STEP
        if here and WHEN == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await function(*args, **kwargs)
        if here and WHEN == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, call)


index = function_module.load("generate")
make_fragile(index, "user_rpc", lambda _user, name, **_: name)
make_fragile(jobs, "service_rpc", lambda name, **_: name)
make_fragile(calls, "_send", lambda _provider, _at, ask, _until: "ask" if ask.method == "POST" else "poll")
make_fragile(storage, "upload", lambda *_: "upload")
make_fragile(storage, "sign", lambda *_: "sign")
app = index.app
