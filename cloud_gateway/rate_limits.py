"""Rate limits for each platform and each client without a key: token buckets in this process's memory.

Every gateway counts for itself; with two of them a platform has twice its rate.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from time import monotonic

from cloud_gateway.settings import LimitSettings, Network, Platform
from edge_agent.errors import Code, Refusal

REFUSAL_PAUSE_S = 1.0
PAUSED_REFUSALS_MAX = 200
"""How long a refusal of a client without a key is delayed, and how many at once: each keeps a connection."""
CLIENTS_MAX = 10_000
"""The most addresses that are remembered; beyond that the one without a request for longest is forgotten."""


class TooMany(Refusal):
    """NO_CELL: too many requests; `retry_after_s` is when the next one may come. `without_key`: the client
    had no right key, and the refusal may be delayed (`Pauses`)."""

    def __init__(self, message: str, retry_after_s: float, *, without_key: bool = False) -> None:
        super().__init__(Code.NO_CELL, message)
        self.retry_after_s = max(1, math.ceil(retry_after_s))
        self.without_key = without_key


class Pauses:
    """Delays refusals of clients without a key: a client that asks again at once after each refusal then
    costs one request a second for each of its connections, and takes no time from others."""

    def __init__(self, pause_s: float = REFUSAL_PAUSE_S, most: int = PAUSED_REFUSALS_MAX) -> None:
        self._pause_s = pause_s
        self._most = most
        self._held = 0

    async def hold(self) -> None:
        """Returns after the pause; at once while too many are delayed already."""
        if self._held >= self._most:
            return
        self._held += 1
        try:
            # Random, so that simultaneous refusals are not sent at the same moment.
            await asyncio.sleep(self._pause_s * random.uniform(0.5, 1.5))
        finally:
            self._held -= 1


class Bucket:
    """Holds at most `burst` tokens and gains `rate_per_s` new ones each second."""

    def __init__(self, rate_per_s: float, burst: int, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = now_s

    def wait_s(self, now_s: float, count: int = 1) -> float:
        """Seconds until this number of tokens is available; 0 if it is."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        return 0.0 if self._tokens >= count else (count - self._tokens) / self._rate_per_s

    def take(self, now_s: float, count: int = 1) -> float:
        """Takes this number of tokens and returns 0; otherwise returns the seconds until they are
        available."""
        wait_s = self.wait_s(now_s, count)
        if not wait_s:
            self._tokens -= count
        return wait_s


class RateLimits:
    """The buckets of all platforms, and of the addresses that wrong keys came from."""

    def __init__(
        self, platforms: Sequence[Platform], settings: LimitSettings, clock: Callable[[], float] = monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._platforms = {
            platform.name: Bucket(platform.requests_per_s, burst_of(platform), clock())
            for platform in platforms
            if platform.requests_per_s is not None
        }
        self._wrong_keys: OrderedDict[str, Bucket] = OrderedDict()
        self._viewers: OrderedDict[str, Bucket] = OrderedDict()
        self.pauses = Pauses()

    def request(self, platform: str) -> None:
        """Counts a platform's request. Raises `TooMany`."""
        bucket = self._platforms.get(platform)
        wait_s = 0.0 if bucket is None else bucket.take(self._clock())
        if wait_s:
            raise TooMany("too many requests", wait_s)

    def wrong_key(self, address: str | None) -> None:
        """Counts a wrong key. Raises `TooMany`.

        Requests with a right key are never refused for their address: behind it, perhaps a load balancer's,
        may be many clients.
        """
        wait_s = self._take(
            self._wrong_keys, address, self._settings.wrong_keys, self._settings.wrong_keys_per_min
        )
        if wait_s:
            raise TooMany("too many wrong keys from this address", wait_s, without_key=True)

    def refuse_guesser(self, address: str | None) -> None:
        """Raises `TooMany` if an address has sent too many wrong keys, and counts nothing. For passwords:
        each costs time to compare."""
        bucket = self._wrong_keys.get(client_key(address))
        wait_s = 0.0 if bucket is None else bucket.wait_s(self._clock())
        if wait_s:
            raise TooMany("too many wrong keys from this address", wait_s, without_key=True)

    def qr_image(self, address: str | None) -> None:
        """Counts an image request without a key. Raises `TooMany`."""
        wait_s = self._take(
            self._viewers, address, self._settings.qr_images, self._settings.qr_images_per_min
        )
        if wait_s:
            raise TooMany("too many images for this address", wait_s, without_key=True)

    def _take(
        self, buckets: OrderedDict[str, Bucket], address: str | None, burst: int, rate_per_min: float
    ) -> float:
        """Takes a token of an address; returns the seconds until there is one, else 0."""
        place = client_key(address)
        bucket = buckets.get(place)
        if bucket is None:
            bucket = buckets[place] = Bucket(rate_per_min / 60, burst, self._clock())
        buckets.move_to_end(place)
        if len(buckets) > CLIENTS_MAX:
            buckets.popitem(last=False)
        return bucket.take(self._clock())


def burst_of(platform: Platform) -> int:
    """How many requests a platform may make at once."""
    if platform.burst is not None:
        return platform.burst
    return max(1, math.ceil(2 * (platform.requests_per_s or 0)))


def client_key(address: str | None) -> str:
    """The key that one client is counted by: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, 64), strict=False))


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in networks)
