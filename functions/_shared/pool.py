"""Connections to the project's own URL, for Postgres and Storage, and to providers.

They are aiohttp's, which takes a quarter of the processor time that httpx and supabase-py take for a call.
"""

from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp


def connections(url: str, timeout: aiohttp.ClientTimeout, **options: Any) -> aiohttp.ClientSession:
    """A pool of connections to where `url` is, through the proxy that the environment names, if it names one.

    `options` are aiohttp.ClientSession's.
    """
    # Asked once here. With trust_env aiohttp asks in a thread at every call, and looks into ~/.netrc, whose
    # passwords are not for these calls. Nor do calls of one user leave cookies for those of another.
    address = urlsplit(url)
    proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
    return aiohttp.ClientSession(
        timeout=timeout, proxy=proxy, cookie_jar=aiohttp.DummyCookieJar(), **options
    )
