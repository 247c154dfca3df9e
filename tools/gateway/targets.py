"""Where a webhook may go: public addresses, or such as the configuration allows.

A receiver's URL comes from a customer. Its host is resolved once, every address is checked, and the
connection goes to the very address that was checked: no second resolution can lead it into a private network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx

from edge_agent.protocol.api import is_loopback

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]

ADDRESSES_MAX = 3
"""So many addresses of one host are tried at most."""
UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out; the rest is special or nobody's."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class TargetRefused(Exception):
    """The receiver may not be called; the text says why."""


async def resolve(threads: Executor, host: str, port: int) -> list[str]:
    """The addresses of a host, asked in one of `threads`. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await loop.run_in_executor(threads, ask)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def addresses_of(url: httpx.URL, allowed: Sequence[Network], resolver: Resolve) -> list[str]:
    """The addresses that a URL's connection may go to. Raises `TargetRefused`, or `OSError` without any."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in ("https", "http") or not host:
        raise TargetRefused("not an https URL")
    if url.scheme == "http" and not is_loopback(host):
        raise TargetRefused("plain http is for loopback only")
    port = (443 if url.scheme == "https" else 80) if url.port is None else url.port
    if not 1 <= port <= 65535:
        raise TargetRefused("the port is not one from 1 to 65535")
    try:
        found = [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await resolver(host, port)
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not may_go_to(address, allowed):
            raise TargetRefused(f"{host} is at {address}, which is not a public address")
    return found[:ADDRESSES_MAX]


def may_go_to(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is public, or in a network that is allowed."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address.version == network.version and address in network for network in allowed):
        return True
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv6Address) and address not in UNICAST and address not in NAT64:
        return False
    return all(inner.is_global and not inner.is_multicast for inner in _inside(address))


def _inside(address: Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address leads to by way of a gateway."""
    if not isinstance(address, IPv6Address):
        return []
    inner = [address.sixtofour, *(address.teredo or ())]
    if address in NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in inner if one is not None]


async def post(
    client: httpx.AsyncClient,
    target: str,
    body: bytes,
    headers: dict[str, str],
    *,
    allowed: Sequence[Network],
    resolver: Resolve,
) -> int:
    """Sends a POST to a checked address of the target; gives the HTTP status.

    Raises `TargetRefused`, and httpx's errors, `OSError` or `ValueError` (a URL that is none).
    """
    url = httpx.URL(target)
    last: httpx.HTTPError | None = None
    for address in await addresses_of(url, allowed, resolver):
        pinned = client.stream(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            async with pinned as response:
                return response.status_code
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            last = error  # nothing was sent: the next address may be tried
    raise last or OSError("the host has no address")
