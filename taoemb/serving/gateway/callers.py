"""Who sends a request to a public route, and how much one client may send.

A client is an address on the internet: the peer's, or what the proxies that are trusted wrote into X-Forwarded-For. An
address of a private network is the shop's own server or proxy, which speaks for many shoppers: it is not limited.
"""

import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from taoemb.config import GatewayConfig
from taoemb.serving.gateway.errors import problem

SCOPE = "taoemb.caller"
"""Where the ASGI scope keeps the Caller."""
_ROBOT = re.compile(rb"(?<!cu)bot\b|crawl|spider|slurp|headless", re.IGNORECASE)
_CLIENTS = 50_000  # that are remembered at once; who comes back after more others starts afresh
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    address: str | None
    """The client's, IPv6 as its /64 network; None: the shop's own."""
    robot: bool
    """It says so itself, in User-Agent."""


OWN = Caller(None, False)


def caller_of(scope: Scope, trusted_proxies: int) -> Caller:
    """Reads the peer, X-Forwarded-For and User-Agent of a request."""
    forwarded, robot = b"", False
    for name, value in scope["headers"]:
        if name == b"user-agent":
            robot = _ROBOT.search(value) is not None
        elif trusted_proxies and name == b"x-forwarded-for":
            forwarded = forwarded + b"," + value if forwarded else value
    peer = scope["client"][0] if scope.get("client") else ""
    told = forwarded.split(b",") if forwarded else []
    if trusted_proxies and len(told) >= trusted_proxies:  # each proxy adds at the end whom it was called by
        peer = told[-trusted_proxies].decode("latin-1").strip()
    return Caller(_client(peer), robot)


@lru_cache(maxsize=4096)
def _client(text: str) -> str | None:
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:  # IPv4 with a port
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None  # a unix socket, or a test without a network
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    if not address.is_global:
        return None
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


class TokenBuckets:
    """A bucket a client: `rate` tokens a second, at most `burst_s` seconds of them saved; a rate of 0 limits nobody."""

    def __init__(self, rate: float, burst_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, max(1.0, rate * burst_s), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str | None, tokens: float = 1.0) -> float:
        """Take tokens; 0 when they were there, else the seconds until they will be (inf: never, it is too many)."""
        if client is None or not self._rate or tokens <= 0:
            return 0.0
        now = self._clock()
        left, at = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - at) * self._rate)
        missing = tokens - left
        self._left[client] = (left if missing > 0 else left - tokens, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if missing <= 0:
            return 0.0
        return missing / self._rate if tokens <= self._most else math.inf


class NewUnits:
    """How many units (users, sessions) of one client are measured in an hour; 0: all.

    Whoever makes up a session for each search would else be a new shopper each time, and keep the judge busy.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._seen: OrderedDict[str, tuple[float, set[int]]] = OrderedDict()

    def admit(self, client: str | None, unit: str) -> bool:
        """Whether a page of this unit may be measured; the same for all its pages within the hour."""
        if client is None or not self._most:
            return True
        now = self._clock()
        since, units = self._seen.pop(client, (now, set()))
        if now - since > _HOUR_S:
            since, units = now, set()
        mark = hash(unit)
        admitted = mark in units or len(units) < self._most
        if admitted:
            units.add(mark)
        self._seen[client] = (since, units)
        if len(self._seen) > _CLIENTS:
            self._seen.popitem(last=False)
        return admitted


class Limits:
    """The limits of one process, by client."""

    def __init__(self, config: GatewayConfig) -> None:
        self.trusted_proxies = config.trusted_proxies
        self.searches = TokenBuckets(config.client_searches, config.client_burst_s)
        self.events = TokenBuckets(config.client_events, config.client_burst_s)
        self._units = NewUnits(config.client_units)

    def unmeasured(self, caller: Caller, unit: str) -> str | None:
        """Why a page is answered but not measured: "robot" or "units"; None when it is."""
        if caller.robot:
            return "robot"
        return None if self._units.admit(caller.address, unit) else "units"


class ClientLimits:
    """ASGI middleware, outermost: who calls a public route, and whether it may; before any of the body is read."""

    def __init__(self, app: ASGIApp, limits: Limits, limited: Counter) -> None:
        """`limited` counts what was refused, by route."""
        self._app, self._limits, self._limited = app, limits, limited
        self._buckets = {"/search": limits.searches, "/events": limits.events}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        buckets = self._buckets.get(scope["path"]) if scope["type"] == "http" else None
        if buckets is None:
            await self._app(scope, receive, send)
            return
        caller = scope[SCOPE] = caller_of(scope, self._limits.trusted_proxies)
        wait_s = buckets.take(caller.address)
        if wait_s:
            self._limited.labels(scope["path"]).inc()
            await too_many(wait_s)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def too_many(wait_s: float) -> Response:
    """429, with the seconds to wait unless waiting does not help."""
    if math.isinf(wait_s):
        return problem(429, "more events at once than a client may send; send fewer in a request")
    return problem(429, "too many requests from this address; wait", {"retry-after": str(math.ceil(wait_s))})
