"""One rate limit for several processes, kept in Redis, with a local limit for when Redis does not answer.

A process does not ask Redis for every call: it takes a few tokens ahead, a lease, and hands them out itself. Tokens
leave the bucket in Redis before they are used, so the processes together never get more than the bucket gives. What a
lease changes is when: in any span of T seconds, N processes admit at most `burst + per_second * T + N * lease` calls of
a key, for the leases that they held when it began. A lease begins with one token, doubles while it is used up in time,
ends after `lease_seconds`, and what is left of it goes back to Redis with the next request.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from resilience.errors import RateLimitedError
from resilience.events import Events
from resilience.rate_limit import RateLimit

# The time is Redis's own, so that the clocks of the processes do not matter. Numbers are written with all digits: Lua's
# own conversion keeps 14, too few for microseconds since 1970. A key lives until its bucket would be full.
_SCRIPT = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, returned = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000000 + returned)
local granted = math.min(wanted, math.floor(tokens))
local wait = 0
if granted < 1 then
  granted = 0
  wait = math.ceil((1 - tokens) / rate * 1000000) + 1
end
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.0f', math.max(now, at)))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.ceil((burst - tokens) / rate * 1000) + 1000))
return {granted, string.format('%.0f', wait)}
"""
_DIGEST = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

# A refusal is remembered no longer than this, so that a bucket that was deleted or filled by hand is seen soon.
_LONGEST_REFUSAL = 1.0


class ScriptRunner(Protocol):
    """What is needed of Redis: `redis.asyncio.Redis` has it."""

    def evalsha(self, sha: str, numkeys: int, /, *keys_and_args: Any) -> Awaitable[Any]:
        """Runs a script that Redis knows by its digest."""

    def eval(self, script: str, numkeys: int, /, *keys_and_args: Any) -> Awaitable[Any]:
        """Runs a script, and lets Redis know it."""


@dataclass(frozen=True, slots=True)
class SharedRateLimitSnapshot:
    """What a shared rate limit does.

    Attributes:
        shared: Whether Redis decides; False: the local limit does.
        keys: Keys of which a lease is held.
        requests: Requests to Redis so far.
        rejected: Calls refused so far because of what Redis said.
        local: Calls decided so far by the local limit.
    """

    shared: bool
    keys: int
    requests: int
    rejected: int
    local: int


@dataclass(slots=True)
class _Lease:
    tokens: int = 0
    ends_at: float = 0.0
    size: int = 1
    used: int = 0
    waiting: int = 0
    next_token_at: float = 0.0
    ask_again_at: float = 0.0
    request: asyncio.Task[None] | None = None


class SharedRateLimit:
    """Gives each key `per_second` calls, and up to `burst` at once, in all processes together.

    When Redis fails or does not answer in time, the local limit decides at once, and Redis is asked again every
    `retry_seconds` beside the calls, which do not wait for it, until it answers. Use from one event loop.

    Events: `rejected`, `fallback` when the local limit takes over, `shared` when Redis decides again.

    Args:
        name: What is limited, for messages, events and the key in Redis.
        per_second: Calls that a key gains each second; above 0.
        burst: The most calls of a key at once; 1 or more.
        redis: The client; it stays the caller's to close. It must not repeat requests by itself.
        prefix: Begins the key in Redis: "<prefix>:<name>:<key>".
        fallback: The local limit.
        timeout: The longest, in seconds, that a call waits for Redis.
        lease: The most tokens taken ahead; None: what comes in 0.1 seconds, a tenth of the burst at most. 1: every
            call asks.
        lease_seconds: After that time a lease is no longer used.
        retry_seconds: The time between two attempts to reach Redis again.
        max_keys: The most keys of which a lease is held; the least recently used goes first, and loses its tokens.
        clock: Gives monotonic seconds.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        name: str,
        per_second: float,
        burst: int,
        redis: ScriptRunner,
        *,
        prefix: str,
        fallback: RateLimit,
        timeout: float,
        lease: int | None = None,
        lease_seconds: float = 0.1,
        retry_seconds: float = 0.5,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < per_second < math.inf or burst < 1:
            raise ValueError(f"per_second must be above 0 and burst 1 or more, not {per_second} and {burst}.")
        if lease is not None and not 1 <= lease <= burst:
            raise ValueError(f"lease must be 1 to the burst, {burst}, not {lease}.")
        if timeout <= 0 or max_keys < 1:
            raise ValueError(f"timeout must be above 0 and max_keys 1 or more, not {timeout} and {max_keys}.")
        self.name = name
        self.events = Events("shared_rate_limit", name)
        self._per_second = per_second
        self._burst = burst
        self._redis = redis
        self._prefix = f"{prefix}:{name}:"
        self._fallback = fallback
        self._timeout = timeout
        self._max_lease = lease or max(1, min(burst // 10, int(per_second * 0.1)))
        self._lease_seconds = lease_seconds
        self._retry_seconds = retry_seconds
        self._max_keys = max_keys
        self._clock = clock
        self._leases: OrderedDict[str, _Lease] = OrderedDict()
        self._down = False
        self._retry_at = 0.0
        self._requests_under_way: set[asyncio.Task[None]] = set()
        self._requests = self._rejected = self._local = 0

    async def check(self, key: str) -> None:
        """Counts a call.

        Args:
            key: Whose it is: the tenant.

        Raises:
            RateLimitedError: The key has used up its calls; `retry_after` says when it has the next.
        """
        now = self._clock()
        lease = self._leases.get(key) or self._new_lease(key)
        if lease.tokens and now < lease.ends_at:
            lease.tokens -= 1
            lease.used += 1
            return
        if self._down:
            if now >= self._retry_at and (lease.request is None or lease.request.done()):
                self._retry_at = now + self._retry_seconds
                lease.request = self._start(key, lease)
            self._check_locally(key)
            return
        await self._check_shared(key, lease, now)

    async def close(self) -> None:
        """Ends the requests that are under way."""
        for task in self._requests_under_way:
            task.cancel()
        if self._requests_under_way:
            await asyncio.wait(self._requests_under_way)

    def snapshot(self) -> SharedRateLimitSnapshot:
        """What it does now."""
        return SharedRateLimitSnapshot(not self._down, len(self._leases), self._requests, self._rejected, self._local)

    async def _check_shared(self, key: str, lease: _Lease, now: float) -> None:
        give_up_at = now + self._timeout
        self._leases.move_to_end(key)
        while True:
            if now < lease.ask_again_at:
                self._refuse(key, lease.next_token_at - now)
            if lease.request is None or lease.request.done():
                # A task of its own: a caller that is cancelled must not take the answer from the others.
                lease.request = self._start(key, lease)
            lease.waiting += 1
            try:
                await asyncio.wait({lease.request}, timeout=give_up_at - now)
            finally:
                lease.waiting -= 1
            # Tokens that came for this call are good however long it took until it ran again.
            if lease.tokens:
                lease.tokens -= 1
                lease.used += 1
                return
            now = self._clock()
            if self._down or now >= give_up_at:
                self._check_locally(key)
                return

    def _start(self, key: str, lease: _Lease) -> asyncio.Task[None]:
        task = asyncio.create_task(self._request(key, lease))
        self._requests_under_way.add(task)
        task.add_done_callback(self._requests_under_way.discard)
        return task

    async def _request(self, key: str, lease: _Lease) -> None:
        """Asks Redis for a new lease, once."""
        ended_unused = lease.tokens
        if ended_unused:
            lease.size = max(1, min(self._max_lease, lease.used))
        elif self._clock() < lease.ends_at:
            lease.size = min(self._max_lease, lease.size * 2)
        lease.tokens = 0
        self._requests += 1
        try:
            async with asyncio.timeout(self._timeout):
                # Lets those who call at the same time be counted, so that one request is enough for them.
                await asyncio.sleep(0)
                wanted = min(max(lease.size, lease.waiting), self._burst)
                granted, wait = await self._run(key, wanted, ended_unused)
        except Exception as error:
            # Whatever it is: a limit that cannot be asked must not end the calls that it counts.
            lease.tokens = 0
            self._retry_at = self._clock() + self._retry_seconds
            if not self._down:
                self._down = True
                self.events.emit("fallback", f"{type(error).__name__}: {error}")
            return
        if self._down:
            self._down = False
            self.events.emit("shared", "Redis answers again")
        now = self._clock()
        lease.tokens, lease.used, lease.ends_at = granted, 0, now + self._lease_seconds
        if not granted:
            lease.next_token_at = now + wait
            lease.ask_again_at = now + min(wait, _LONGEST_REFUSAL)

    async def _run(self, key: str, wanted: int, returned: int) -> tuple[int, float]:
        arguments = (1, self._prefix + key, repr(float(self._per_second)), self._burst, wanted, returned)
        try:
            granted, wait = await self._redis.evalsha(_DIGEST, *arguments)
        except Exception as error:
            # Told by its name, because this package does not depend on a client for Redis.
            if type(error).__name__ != "NoScriptError" and "NOSCRIPT" not in str(error):
                raise
            granted, wait = await self._redis.eval(_SCRIPT, *arguments)
        return int(granted), int(wait) / 1e6

    def _check_locally(self, key: str) -> None:
        self._local += 1
        self._fallback.check(key)

    def _refuse(self, key: str, wait: float) -> None:
        self._rejected += 1
        self.events.emit("rejected", "shared rate limit reached", key=key, retry_after=wait)
        raise RateLimitedError(f"{self.name} was called too often by {key!r}.", retry_after=wait)

    def _new_lease(self, key: str) -> _Lease:
        while len(self._leases) >= self._max_keys:
            self._leases.popitem(last=False)
        lease = self._leases[key] = _Lease()
        return lease
