"""Where a webhook may go: public addresses, or those that the configuration allows.

A receiver's URL comes from a platform. Its host is resolved once, every address is checked, and the
connection goes to the very address that was checked: no second resolution can lead it into a private network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import httpx

from edge_agent.protocol.api import is_loopback

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[str]]]

ADDRESSES_MAX = 3
"""The most addresses of one host that are tried."""
UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is global unicast; the rest is special or unassigned."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""How a network without IPv4 reaches it (RFC 6052): judged by the IPv4 address inside."""
SPECIAL: tuple[Network, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        # IANA IPv4 Special-Purpose Address Registry, with multicast and the reserved range.
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        # A service of cloud hosts at a public address: Azure's host.
        "168.63.129.16/32",
        # IANA IPv6 Special-Purpose Address Registry, as far as it lies in global unicast.
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
"""Never the address of a receiver, also where the registry calls it globally reachable."""
HTTPS_PORT = 443


class TargetRefused(Exception):
    """The receiver may not be called; the text gives the reason."""


async def resolve(threads: Executor, host: str, port: int) -> list[str]:
    """Resolves a host's addresses in one of `threads`. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await loop.run_in_executor(threads, ask)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def addresses_of(
    url: httpx.URL, allowed: Sequence[Network], resolver: Resolve, ports: Sequence[int] = ()
) -> list[str]:
    """The addresses to which a URL's connection may go: public ones at port 443 or one of `ports`, and any in
    an allowed network. Raises `TargetRefused`, or `OSError` if there are none."""
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
        if port != HTTPS_PORT and port not in ports and not is_allowed(address, allowed):
            raise TargetRefused(f"port {port} is neither 443 nor configured")
    return found[:ADDRESSES_MAX]


def may_go_to(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is global unicast and not special-purpose, or in an allowed network."""
    return is_allowed(address, allowed) or _is_public(address)


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is in a network that the configuration allows."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    plain = address if mapped is None else mapped
    return any(plain.version == network.version and plain in network for network in allowed)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address in NAT64:
        return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return False
    return not any(address.version == network.version and address in network for network in SPECIAL)


@dataclass(frozen=True, slots=True)
class ReceiverResponse:
    """A receiver's response: the HTTP status, and the Retry-After header if there is one."""

    status: int
    retry_after: str | None = None


async def post(
    client: httpx.AsyncClient,
    target: str,
    body: bytes,
    headers: dict[str, str],
    *,
    allowed: Sequence[Network],
    resolver: Resolve,
    ports: Sequence[int] = (),
) -> ReceiverResponse:
    """Sends a POST to a checked address of the target.

    Raises `TargetRefused`, and httpx's errors, `OSError` or `ValueError` (an invalid URL).
    """
    url = httpx.URL(target)
    last: httpx.HTTPError | None = None
    for address in await addresses_of(url, allowed, resolver, ports):
        pinned = client.stream(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        try:
            async with pinned as response:
                return ReceiverResponse(response.status_code, response.headers.get("Retry-After"))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            last = error  # nothing was sent: the next address may be tried
    raise last or OSError("the host has no address")
