"""How often each caller may call: a token bucket for every key, in bounded memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from resilience.errors import RateLimitedError
from resilience.events import Events
from resilience.token_bucket import TokenBucket

T = TypeVar("T")

# Buckets that a new key looks at to find a place: bounds what one call pays.
_LOOKED_AT = 16


@dataclass(frozen=True, slots=True)
class RateLimitSnapshot:
    """What a rate limit holds.

    Attributes:
        keys: Keys that have a bucket of their own.
        rejected: Calls refused so far.
        shared: Calls so far of keys that found no bucket of their own free.
    """

    keys: int
    rejected: int
    shared: int


class RateLimit:
    """Gives each key `per_second` calls, and up to `burst` at once.

    Memory is bounded, and forgetting a key never gives it anything: only a full bucket is dropped, which is as good as
    the new one that its key would get. When all buckets are in use, further keys share one more bucket until one of
    the others is full again; a key that then gets a bucket of its own starts with what the shared one holds. So no key
    ever gets more than its limit.

    Events: `rejected`.

    Args:
        name: What is limited, for messages and events.
        per_second: Calls that a key gains each second; above 0.
        burst: The most calls of a key at once; 1 or more.
        max_keys: The most keys that have a bucket of their own.
        clock: Gives monotonic seconds.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        name: str,
        per_second: float,
        burst: int,
        *,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_keys < 1:
            raise ValueError(f"max_keys must be 1 or more, not {max_keys}.")
        self.name = name
        self.events = Events("rate_limit", name)
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._others = TokenBucket(per_second, burst, clock)
        self._rejected = 0
        self._shared = 0
        self._lock = threading.Lock()

    def check(self, key: str) -> None:
        """Counts a call.

        Args:
            key: Whose it is: the tenant.

        Raises:
            RateLimitedError: The key has used up its calls; `retry_after` says when it has the next.
        """
        # One lock for finding and taking: a bucket must not be dropped between the two.
        with self._lock:
            wait = (self._buckets.get(key) or self._bucket(key)).take()
            if not wait:
                return
            self._rejected += 1
        self.events.emit("rejected", "rate limit reached", key=key, retry_after=wait)
        raise RateLimitedError(f"{self.name} was called too often by {key!r}.", retry_after=wait)

    def of(self, key: str) -> KeyedRateLimit:
        """The limit of one key, as a policy."""
        return KeyedRateLimit(self, key)

    def snapshot(self) -> RateLimitSnapshot:
        """What it holds now."""
        with self._lock:
            return RateLimitSnapshot(len(self._buckets), self._rejected, self._shared)

    def _bucket(self, key: str) -> TokenBucket:
        buckets = self._buckets
        if len(buckets) >= self._max_keys:
            for _ in range(min(_LOOKED_AT, len(buckets))):
                other, bucket = buckets.popitem(last=False)
                if not bucket.is_full():
                    buckets[other] = bucket
            if len(buckets) >= self._max_keys:
                self._shared += 1
                return self._others
        bucket = buckets[key] = self._others.copy()
        return bucket


class KeyedRateLimit:
    """The limit of one key, as a policy. Made by `RateLimit.of`."""

    def __init__(self, limit: RateLimit, key: str) -> None:
        self.name = limit.name
        self.events = limit.events
        self._limit = limit
        self._key = key

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Runs an operation. Raises `RateLimitedError` if the key has used up its calls."""
        self._limit.check(self._key)
        return await operation()

    def run_sync(self, operation: Callable[[], T]) -> T:
        """Runs a blocking operation, as `run` does an asynchronous one."""
        self._limit.check(self._key)
        return operation()

    def snapshot(self) -> RateLimitSnapshot:
        """What the limit of all keys holds now."""
        return self._limit.snapshot()
