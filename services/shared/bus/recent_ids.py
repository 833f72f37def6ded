"""Recognizes requests that were taken before, so that a retried batch is stored once.

A unary request is known by its tenant and request id; a batch of a stream by its tenant, producer id and sequence.
An id counts once the bus has the batch, never earlier: nothing is acknowledged from memory alone. Ids come back
at start from the store (`load_requests`, `load_producers`) and from the bus (`load_headers`), in that order.

Request ids are forgotten when they are older than `max_age`, or when more than `max_ids` newer ones of their tenant
came: the newest `max_ids` of the last 24 hours are always recognized, a few older ones too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from services.shared.bus.port import Header, Position
from services.shared.bus.recent_producers import RecentProducers
from services.shared.bus.recent_requests import RecentRequests
from services.shared.errors import InvalidArgumentError

_NANOSECONDS = 1_000_000_000
_Key = tuple[str, str, int]

COMMITTED = Position(0)
"""The position of a batch that only the store remembers: waiting until it is committed returns at once."""


class RecentIds:
    """The ids of one service's bus. Used by the event loop's thread only.

    Args:
        clock: Nanoseconds since 1970.
        max_age: Seconds after which an id may be forgotten.
        max_ids: Request ids remembered per tenant; about 31 bytes each.
        max_producers: Producers remembered per tenant; the one that was silent longest is forgotten first.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], int] = time.time_ns,
        max_age: float = 24 * 3600.0,
        max_ids: int = 10_000_000,
        max_producers: int = 100_000,
    ) -> None:
        self._clock = clock
        self._max_age = int(max_age * _NANOSECONDS)
        self._max_ids = max_ids
        self._max_producers = max_producers
        self._requests: dict[str, RecentRequests] = {}
        self._producers: dict[str, RecentProducers] = {}
        self._running: dict[_Key, asyncio.Task[Position]] = {}

    async def publish_once(self, header: Header, publish: Callable[[], Awaitable[Position]]) -> tuple[Position, bool]:
        """Publishes a batch unless its id was taken before.

        While another publish of the same id is under way, this waits for it; if that fails, this publishes. Once
        begun, a publish runs to its end even if all its callers go away: whether it was taken gets known.

        Batches of one producer must be begun in the order of their sequences. After one was refused, later ones
        are refused too until it is repeated or `settle`d, or `load_producers` says that another instance took it: the
        sender goes on from it.

        Args:
            header: With neither a request id nor a producer id and sequence, the batch is published as it is.
            publish: Publishes it; called at most once.

        Returns:
            The position, and whether the batch is a repetition. A repetition's position is one whose commit implies
            that the batch is committed; `COMMITTED` if that is so already.

        Raises:
            ResourceExhaustedError: An earlier sequence was refused; `metadata["from_sequence"]` says which.
            AirisError: What `publish` raised.
        """
        key = _key(header)
        if key is None:
            return await publish(), False
        while True:
            if (known := self._find(header)) is not None:
                return known, True
            running = self._running.get(key)
            if running is None:
                break
            # Not awaited itself: its failure is its first caller's to report.
            await asyncio.wait([running])
        task = asyncio.create_task(self._publish(key, header, publish))
        # Marks a failure as seen: its caller may have gone away.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._running[key] = task
        return await asyncio.shield(task), False

    async def finished(self, tenant: str, producer_id: str) -> None:
        """Waits until no publish of a producer is under way; of a stream that has ended, too."""
        while running := [task for key, task in self._running.items() if key[2] and key[:2] == (tenant, producer_id)]:
            await asyncio.wait(running)

    def settle(self, header: Header) -> None:
        """Counts a producer's sequence as settled although it was not published: the batch was rejected whole."""
        if header.producer_id and header.sequence > 0:
            self._producers_of(header.tenant).add(header.producer_id, header.sequence, None, self._clock())

    def refused(self, header: Header) -> None:
        """Notes that a producer's batch was not taken, or may not have been: later ones are refused until it comes
        again."""
        if header.producer_id and header.sequence > 0 and not header.request_id:
            self._producers_of(header.tenant).refused(header.producer_id, header.sequence, self._clock())

    def highest_sequence(self, tenant: str, producer_id: str) -> int:
        """The highest sequence up to which all are settled; 0 if none is."""
        return self._producers_of(tenant).settled_through(producer_id)

    def highest_taken(self, tenant: str, producer_id: str) -> int:
        """The highest sequence that was taken, also above gaps; 0 if none was.

        Behind what was refused nothing is taken until it comes again: what is missing below was refused for good.
        """
        return self._producers_of(tenant).highest(producer_id)

    def came_again(self, header: Header) -> None:
        """Notes that a producer's batch was looked at: later ones are not refused on its account any more."""
        if header.producer_id:
            self._producers_of(header.tenant).begun(header.producer_id, header.sequence)

    def load_requests(self, ids: Iterable[tuple[str, str, int]]) -> None:
        """Remembers what the store has: tenant, request id and when it was received, the oldest first."""
        now = self._clock()
        for tenant, request_id, received_at in ids:
            if request_id and now - received_at <= self._max_age:
                self._requests_of(tenant).add(request_id, COMMITTED, received_at, now)

    def load_producers(self, sequences: Iterable[tuple[str, str, int, int]]) -> None:
        """Remembers what the store has: tenant, producer id, its highest sequence and when that was received."""
        now = self._clock()
        for tenant, producer_id, sequence, received_at in sequences:
            if now - received_at <= self._max_age:
                self._producers_of(tenant).load(producer_id, sequence, received_at)

    def load_headers(self, headers: Iterable[tuple[Position, Header]]) -> None:
        """Remembers what the bus has and the store may not: `bus.uncommitted()` after `open`."""
        for position, header in headers:
            self._remember(header, position, header.received_at)

    def __len__(self) -> int:
        """Request ids remembered, over all tenants."""
        return sum(len(requests) for requests in self._requests.values())

    async def _publish(self, key: _Key, header: Header, publish: Callable[[], Awaitable[Position]]) -> Position:
        try:
            if key[2]:
                # Only now: those before it that began at the same time have been refused by then, if they were.
                producers = self._producers_of(header.tenant)
                producers.refuse_overtaking(header.producer_id, header.sequence)
                producers.begun(header.producer_id, header.sequence)
            position = await publish()
            self._remember(header, position, self._clock())
        except InvalidArgumentError:
            # For good: the sender goes on behind it.
            raise
        except BaseException:
            self.refused(header)
            raise
        finally:
            del self._running[key]
        return position

    def _find(self, header: Header) -> Position | None:
        now = self._clock()
        if header.request_id:
            requests = self._requests.get(header.tenant)
            return requests.find(header.request_id, now) if requests else None
        producers = self._producers.get(header.tenant)
        return producers.find(header.producer_id, header.sequence, now) if producers else None

    def _remember(self, header: Header, position: Position, seen_at: int) -> None:
        if header.request_id:
            self._requests_of(header.tenant).add(header.request_id, position, seen_at, self._clock())
        elif header.producer_id and header.sequence > 0:
            self._producers_of(header.tenant).add(header.producer_id, header.sequence, position, seen_at)

    def _requests_of(self, tenant: str) -> RecentRequests:
        if tenant not in self._requests:
            self._requests[tenant] = RecentRequests(self._max_ids, self._max_age)
        return self._requests[tenant]

    def _producers_of(self, tenant: str) -> RecentProducers:
        if tenant not in self._producers:
            self._producers[tenant] = RecentProducers(self._max_producers, self._max_age)
        return self._producers[tenant]


def _key(header: Header) -> _Key | None:
    if header.request_id:
        return header.tenant, header.request_id, 0
    if header.producer_id and header.sequence > 0:
        return header.tenant, header.producer_id, header.sequence
    return None
