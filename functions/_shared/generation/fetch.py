"""Fetches what a provider's link leads to, and nothing else that a link could name.

Only hosts that the provider's adapter lists, over https, no redirects. The name is resolved once, every
address must be a public one, and the connection goes to the address that was checked: a name server that
changes its answer changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection
from functools import lru_cache

import httpx

from ..transport import Client
from . import timeouts

# Not public either, whatever ip.is_global of this Python says: IETF protocol assignments, where some clouds
# keep their metadata; and what wraps an IPv4 address, past the rules for IPv4: NAT64, 6to4, Teredo, mapped,
# compatible.
NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24", "192.88.99.0/24",
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/23", "::/96", "::ffff:0:0/96",
    )
]  # fmt: skip


class ForbiddenLinkError(Exception):
    """The link leads where we do not go."""


class FetchError(Exception):
    """The link did not work now; it may later."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address.split("%")[0])  # without an IPv6 zone
    listed = any(ip in network for network in NOT_PUBLIC)
    return ip.is_global and not (listed or ip.is_multicast or ip.is_reserved)


def may_lead_to(url: httpx.URL, hosts: Collection[str]) -> bool:
    """Whether the URL is https, without a port or user, and on one of the hosts."""
    host = url.host.lower()
    listed = any(host.endswith(known) if known.startswith(".") else host == known for known in hosts)
    return listed and url.scheme == "https" and url.port is None and not url.userinfo


async def resolve(host: str) -> list[str]:
    """The addresses of a host. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


@lru_cache(maxsize=1)
def _client() -> Client:
    # Not by a proxy of the environment: it would resolve the name again.
    return Client(timeout=timeouts.LINK, trust_env=False, follow_redirects=False)


async def _pinned(url: httpx.URL) -> httpx.Request:
    """A GET that connects to the address that was checked, and still names and verifies the host."""
    try:
        addresses = await resolve(url.host)
    except OSError:
        raise FetchError("the name does not resolve") from None
    if not addresses or not all(map(is_public, addresses)):
        raise ForbiddenLinkError("an address that is not public")
    return httpx.Request(
        "GET",
        url.copy_with(host=addresses[0]),
        headers={"Host": url.host, "Accept-Encoding": "identity"},
        extensions={"sni_hostname": url.host, "timeout": timeouts.LINK.as_dict()},
    )


async def fetch(link: str, hosts: Collection[str], stand_in: str | None, limit: int) -> bytes:
    """At most `limit` bytes from a link.

    `stand_in` is the base URL of a provider that someone put on this machine on purpose: links of the same
    origin are followed as they are. Raises ForbiddenLinkError, or FetchError when another try may help.
    """
    try:
        url = httpx.URL(link)
    except (httpx.InvalidURL, ValueError):
        raise ForbiddenLinkError("not a URL") from None
    if stand_in is not None and _origin(url) == _origin(httpx.URL(stand_in)) and not url.userinfo:
        request = httpx.Request("GET", url, extensions={"timeout": timeouts.LINK.as_dict()})
    elif may_lead_to(url, hosts):
        request = await _pinned(url)
    else:
        raise ForbiddenLinkError("a host that is not the provider's")
    try:
        return await _read(request, limit)
    except httpx.HTTPError:
        raise FetchError("no answer") from None


async def _read(request: httpx.Request, limit: int) -> bytes:
    response = await _client().send(request, stream=True)
    try:
        if response.status_code != 200:
            # A redirect could lead anywhere; a 4xx will not get better.
            error = FetchError if response.status_code >= 500 else ForbiddenLinkError
            raise error(f"status {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > limit:
                raise ForbiddenLinkError("more bytes than allowed")
        return bytes(body)
    finally:
        await response.aclose()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), url.port


async def close() -> None:
    """End the connections."""
    await _client().aclose()
    _client.cache_clear()
