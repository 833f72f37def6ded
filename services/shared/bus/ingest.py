"""What every `ingest.py` does with a batch: decode it, check it, make it durable, answer. The checks are the signal's.

What arrives while others are decoded is decoded and checked together, in a thread: each call of a column engine costs
as much for one item as for a thousand.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import structlog

from services.shared.bus.intake import Intake, Origin, Receipt
from services.shared.errors import (
    AirisError,
    FieldViolation,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)

logger = structlog.get_logger(__name__)

# More would add to the latency of all of them and save nothing.
MOST_REQUESTS = 64
MOST_BYTES = 2 * 1024 * 1024
MOST_WAITING_BYTES = 256 * 1024 * 1024
"""Of requests that are not decoded yet, in protobuf and in JSON each; a tenant's own, of one type, half of it."""
_RETRY_SECONDS = 1.0

Ends = np.ndarray[Any, np.dtype[np.int64]]


class Items(Protocol):
    """Decoded items of any dialect."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    @property
    def dialect_field(self) -> str:
        """How a violation names item i: "metrics" gives `metrics[i]`."""
        ...

    @property
    def need_now(self) -> bool:
        """Whether what becomes of them depends on when they were received: one has no time of its own."""
        ...


ItemsT = TypeVar("ItemsT", bound=Items)
ItemsT_contra = TypeVar("ItemsT_contra", bound=Items, contravariant=True)


class Columns(Protocol):
    """Accepted items as the store takes them."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def split(self, items: Any, ends: Ends) -> Sequence[Self]:
        """Those of each request, if none was refused.

        Args:
            items: What they were made from.
            ends: int64[k]: where the items of each of k requests end; see `Requests`.
        """
        ...


ColumnsT = TypeVar("ColumnsT", bound=Columns)


@dataclass(frozen=True, slots=True)
class Requests(Generic[ItemsT]):
    """The items of several requests.

    Attributes:
        items: Of all, in order.
        ends: int64[k]: where those of each request end; of points, where its metrics end.
        fields: The other plain fields of each request by name.
    """

    items: ItemsT
    ends: Ends
    fields: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Checked(Generic[ColumnsT]):
    """A checked batch: what is accepted, and for each refused index why."""

    columns: ColumnsT
    rejected: dict[int, FieldViolation]


@dataclass(frozen=True, slots=True)
class CheckedRequest(Checked[ColumnsT]):
    """A checked request.

    Attributes:
        received_at: Nanoseconds since 1970 at which it was checked.
        count: Items it has.
        fields: Its other plain fields by name.
    """

    received_at: int
    count: int
    fields: dict[str, Any]


class Checker(Protocol[ItemsT_contra, ColumnsT]):
    """A signal's rules."""

    def check(self, items: ItemsT_contra, tenant: str, now_ns: int, /) -> Checked[ColumnsT]:
        """Splits items into accepted columns and refused indices. Called by one thread at a time."""
        ...


class Recall(Protocol[ColumnsT]):
    """Knows requests like earlier ones without decoding them."""

    def recall(self, message_type: str, tenant: str, payload: bytes, now_ns: int, /) -> ColumnsT | None:
        """The columns of a request that has no other fields, if nothing of it is to be refused. Called in the loop."""
        ...

    def learn(self, message_type: str, tenant: str, payload: bytes, columns: ColumnsT, now_ns: int, /) -> None:
        """Takes note of what a request became of which nothing was refused. Called in the thread of `Checker.check`."""
        ...


Read = Callable[[str, Sequence[bytes]], Requests[ItemsT]]
"""Takes the full name of a message and requests of that type as bytes. Raises `InvalidArgumentError`."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ColumnsT]):
    payload: bytes
    outcome: asyncio.Future[CheckedRequest[ColumnsT]]


class WaitingBytes:
    """Bounds the bytes of requests that wait, and the share of each tenant's requests of one type."""

    def __init__(self) -> None:
        self._total = 0
        self._shares: Counter[tuple[str, str]] = Counter()

    def add(self, message_type: str, tenant: str, size: int) -> None:
        """Counts a request. Raises `ResourceExhaustedError` if there is no room for it."""
        share = message_type, tenant
        if self._total + size > MOST_WAITING_BYTES or self._shares[share] + size > MOST_WAITING_BYTES // 2:
            raise ResourceExhaustedError(
                "More data arrives than can be decoded; send the batch again later.",
                reason="BACKLOG_FULL",
                retry_after=_RETRY_SECONDS,
            )
        self._total += size
        self._shares[share] += size

    def remove(self, message_type: str, tenant: str, size: int) -> None:
        """Gives back the room of a request that was counted."""
        share = message_type, tenant
        self._total -= size
        self._shares[share] -= size
        if not self._shares[share]:
            del self._shares[share]


class Ingest(Generic[ItemsT, ColumnsT]):
    """Decodes and checks batches.

    Args:
        read: Decodes them.
        checker: Gives the columns.
        intake: Makes them durable.
        recall: Knows some without that.
    """

    def __init__(
        self,
        read: Read[ItemsT],
        checker: Checker[ItemsT, ColumnsT],
        intake: Intake[ColumnsT],
        recall: Recall[ColumnsT] | None = None,
    ) -> None:
        self._recall = recall
        self._read = read
        self._checker = checker
        self.intake = intake
        # By what may be decoded together: the type of the message, and whose it is.
        self._queues: dict[tuple[str, str], deque[_Waiting[ColumnsT]]] = {}
        self._bytes = WaitingBytes()
        self._task: asyncio.Task[None] | None = None
        # One of its own, that is there before anything is checked: where a thread cannot be started, an executor keeps
        # the work all the same, and a later thread would do it beside the next.
        self._thread = ThreadPoolExecutor(1, "ingest-check")
        self._thread.submit(int)

    async def check(self, message_type: str, tenant: str, payload: bytes) -> CheckedRequest[ColumnsT]:
        """Decodes and checks a request. Those of one tenant and type are answered in the order in which they came.

        Args:
            message_type: Full name of the request's message.
            tenant: Whose it is.
            payload: Its bytes.

        Raises:
            InvalidArgumentError: It is malformed, or too large.
            ResourceExhaustedError: More wait than memory is given to, or the bus has no room (BACKLOG_FULL, DISK_FULL).
            UnavailableError: The bus takes nothing.
        """
        self.intake.check_room(len(payload))
        if self._recall is not None:
            now = self.intake.clock()
            if (known := self._recall.recall(message_type, tenant, payload, now)) is not None:
                return CheckedRequest(known, {}, now, known.count, {})
        waiting: _Waiting[ColumnsT] = _Waiting(payload, asyncio.get_running_loop().create_future())
        self._bytes.add(message_type, tenant, len(payload))
        self._queues.setdefault((message_type, tenant), deque()).append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="ingest check")
        try:
            return await waiting.outcome
        finally:
            # An error would hold itself by it, and the payload, until Python looks for what has gone.
            del waiting

    async def take(self, origin: Origin, payload: bytes, checked: CheckedRequest[ColumnsT]) -> Receipt:
        """Makes the valid items of a checked request durable, once. See `Intake.take`."""
        return await self.intake.take(
            origin, checked.received_at, payload, checked.columns, checked.count, checked.rejected
        )

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queues:
                (message_type, tenant), group = self._next_group()
                if not group:
                    continue
                payloads = [waiting.payload for waiting in group]
                outcomes: Sequence[CheckedRequest[ColumnsT] | Exception]
                try:
                    outcomes = await loop.run_in_executor(
                        self._thread, self._check_and_learn, message_type, tenant, payloads
                    )
                except Exception:
                    # No memory: these are told, and the next ones are tried.
                    logger.exception("requests_not_checked", count=len(payloads))
                    unknown = "The service has no memory left for the batch; send it again later."
                    outcomes = [UnavailableError(unknown, retry_after=_RETRY_SECONDS)] * len(payloads)
                for waiting, outcome in zip(group, outcomes, strict=True):
                    if waiting.outcome.done():
                        continue
                    if isinstance(outcome, CheckedRequest):
                        waiting.outcome.set_result(outcome)
                    else:
                        waiting.outcome.set_exception(outcome)
        finally:
            self._task = None

    def _next_group(self) -> tuple[tuple[str, str], list[_Waiting[ColumnsT]]]:
        """The oldest of those whose turn it is. Nobody waits any more for one that is done."""
        key = next(iter(self._queues))
        queue = self._queues.pop(key)
        group: list[_Waiting[ColumnsT]] = []
        size = 0
        while queue and len(group) < MOST_REQUESTS and (not group or size + len(queue[0].payload) <= MOST_BYTES):
            waiting = queue.popleft()
            self._bytes.remove(*key, len(waiting.payload))
            if not waiting.outcome.done():
                group.append(waiting)
                size += len(waiting.payload)
        if queue:
            # Behind the others.
            self._queues[key] = queue
        return key, group

    def _check_and_learn(
        self, message_type: str, tenant: str, payloads: Sequence[bytes]
    ) -> Sequence[CheckedRequest[ColumnsT] | Exception]:
        outcomes = self._check_all(message_type, tenant, payloads)
        if self._recall is not None:
            for payload, outcome in zip(payloads, outcomes, strict=True):
                if isinstance(outcome, CheckedRequest) and not outcome.rejected:
                    try:
                        self._recall.learn(message_type, tenant, payload, outcome.columns, outcome.received_at)
                    except Exception:
                        # They are checked: what is learned only saves work.
                        logger.exception("request_not_learned")
        return outcomes

    def _check_all(
        self, message_type: str, tenant: str, payloads: Sequence[bytes]
    ) -> Sequence[CheckedRequest[ColumnsT] | Exception]:
        if len(payloads) > 1:
            try:
                if (checked := self._check_together(message_type, tenant, payloads)) is not None:
                    return checked
            except Exception:
                # One is wrong, or all together are too large: each is told what is wrong with it.
                logger.debug("requests_checked_alone", count=len(payloads), exc_info=True)
        outcomes: list[CheckedRequest[ColumnsT] | Exception] = []
        for payload in payloads:
            try:
                outcomes.append(self._check_one(message_type, tenant, payload))
            except AirisError as error:
                # Likewise: by where it was raised, and from what.
                error.__cause__ = error.__context__ = None
                outcomes.append(error.with_traceback(None))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def _check_together(
        self, message_type: str, tenant: str, payloads: Sequence[bytes]
    ) -> Sequence[CheckedRequest[ColumnsT]] | None:
        """None if an item is refused: its index is one of its own request."""
        now = self.intake.clock()
        requests = self._read(message_type, payloads)
        checked = self._checker.check(requests.items, tenant, now)
        if checked.rejected:
            return None
        return [
            CheckedRequest(columns, {}, now, columns.count, fields)
            for columns, fields in zip(
                checked.columns.split(requests.items, requests.ends), requests.fields, strict=True
            )
        ]

    def _check_one(self, message_type: str, tenant: str, payload: bytes) -> CheckedRequest[ColumnsT]:
        now = self.intake.clock()
        requests = self._read(message_type, [payload])
        checked = self._checker.check(requests.items, tenant, now)
        return CheckedRequest(checked.columns, checked.rejected, now, requests.items.count, requests.fields[0])


def limit_items(items: Items, most: int, noun: str) -> None:
    """Refuses a batch as a whole that is too large to look at.

    Raises:
        InvalidArgumentError: It has more items than a request may have (SIZE_LIMIT_EXCEEDED).
    """
    if items.count > most:
        raise InvalidArgumentError(
            f"The request has {items.count} {noun}; at most {most} are allowed. Split it into several.",
            reason="SIZE_LIMIT_EXCEEDED",
            violations=(FieldViolation(items.dialect_field, f"at most {most} items", "SIZE_LIMIT_EXCEEDED"),),
        )
