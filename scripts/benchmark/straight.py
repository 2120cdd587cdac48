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

    async def request(self, method: str, url: str, **options: Any) -> aiohttp.ClientResponse:
        """As ClientSession.request()."""
        through = f"{settings.supabase_url()}/rest/v1"
        return await self.pool.request(method, url.replace(through, os.environ["POSTGREST_URL"]), **options)

    async def close(self) -> None:
        """As ClientSession.close()."""
        await self.pool.close()


def install() -> None:
    """From now on the functions of this process use it."""
    made = database._session

    @lru_cache(maxsize=1)
    def session() -> Straight:
        return Straight(made())

    setattr(database, "_session", session)  # noqa: B010
