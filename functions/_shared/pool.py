"""Connections to the project's own URL, for Postgres and Storage, and to providers.

They are aiohttp's; on httpx's own, a call by supabase-py takes three times as much processor time.
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
    return aiohttp.ClientSession(
        timeout=timeout, proxy=_proxy(url), cookie_jar=aiohttp.DummyCookieJar(), **options
    )


def _proxy(url: str) -> str | None:
    """The proxy by http_proxy, https_proxy, all_proxy and no_proxy. One that is not HTTP is passed over."""
    address, proxies = urlsplit(url), getproxies()
    named = proxies.get(address.scheme) or proxies.get("all")
    if named is None or proxy_bypass(address.hostname or ""):
        return None
    proxy = named if "://" in named else f"http://{named}"
    return proxy if urlsplit(proxy).scheme in ("http", "https") else None
