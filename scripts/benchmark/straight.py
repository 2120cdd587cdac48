"""Lets a function's process in the benchmark call PostgREST past the development gateway, which would slow
down both sides alike. Needs POSTGREST_URL in the environment.
"""

import os
from functools import lru_cache
from typing import Any

import aiohttp

from _shared import database, settings


class Straight:
    """The pool of connections to PostgREST."""

    def __init__(self, pool: aiohttp.ClientSession) -> None:
        self.pool = pool

    def post(self, url: str, **options: Any) -> Any:
        """As ClientSession.post()."""
        through = f"{settings.supabase_url()}/rest/v1"
        return self.pool.post(url.replace(through, os.environ["POSTGREST_URL"]), **options)

    async def close(self) -> None:
        """As ClientSession.close()."""
        await self.pool.close()


def install() -> None:
    """From now on the functions of this process use it."""
    made = database._pool

    @lru_cache(maxsize=1)
    def pool() -> Straight:
        return Straight(made())

    setattr(database, "_pool", pool)  # noqa: B010
