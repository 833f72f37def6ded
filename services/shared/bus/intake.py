"""Acknowledgement: a checked batch becomes durable once, however often it is sent.

`ingest.py` of each signal calls `take` with what its check accepted; `worker.py` drains what was taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from resilience import load
from services.shared.bus.port import Batch, Bus, Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.bus.repeats import KnownIds
from services.shared.errors import FieldViolation, InvalidArgumentError, UnavailableError

ColumnsT = TypeVar("ColumnsT")

MAX_ID_LENGTH = 128
_RESUME_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a batch comes from.

    Attributes:
        tenant: Whose data it is; set by the server.
        message_type: Full protobuf name of the payload's message.
        request_id: The sender's id of a unary request, or empty.
        producer_id: The sender's name over its streams, or empty.
        sequence: The batch's number within the producer, or 0.
        wait_queryable: Whether to answer only when the data can be queried.
    """

    tenant: str
    message_type: str
    request_id: str = ""
    producer_id: str = ""
    sequence: int = 0
    wait_queryable: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch.

    Attributes:
        accepted_count: Items that are durable.
        rejected: For each refused index, in order, why.
        position: Where the batch stands in the order of ingest; empty if nothing of it was accepted.
    """

    accepted_count: int
    rejected: dict[int, FieldViolation]
    position: str


class Intake(Generic[ColumnsT]):
    """Publishes batches, each once.

    Args:
        bus: Where to.
        recent_ids: The ids of what is there.
        decode: Gives a replayed batch its columns.
        clock: Nanoseconds since 1970.
        stored: What the store knows of producers, if `recent_ids` does not know all: others publish too.
    """

    def __init__(
        self,
        bus: Bus[ColumnsT],
        recent_ids: RecentIds,
        decode: Callable[[Header, bytes], ColumnsT],
        clock: Callable[[], int],
        stored: KnownIds | None = None,
    ) -> None:
        self._stored = stored
        self._bus = bus
        self._recent_ids = recent_ids
        self._decode = decode
        self.clock = clock

    def check_room(self, size: int) -> None:
        """Raises what `take` would for a batch of so many bytes, before it is decoded; also for a repeated one."""
        self._bus.check_room(size)

    async def take(
        self,
        origin: Origin,
        received_at: int,
        payload: bytes,
        columns: ColumnsT,
        item_count: int,
        rejected: dict[int, FieldViolation],
    ) -> Receipt:
        """Makes a batch durable unless it is a repetition. One of a stream without accepted items is left to `settle`.

        Args:
            origin: Where it comes from.
            received_at: Nanoseconds since 1970 at which it was checked.
            payload: Its wire bytes.
            columns: Its accepted items.
            item_count: Items in the payload.
            rejected: For each refused index why.

        Raises:
            InvalidArgumentError: The request id is too long.
            ResourceExhaustedError: The backlog or the disk is full.
            UnavailableError: It is not known whether the batch was taken; repeat it with the same id.
        """
        if len(origin.request_id) > MAX_ID_LENGTH:
            raise InvalidArgumentError(
                f"request_id must have at most {MAX_ID_LENGTH} characters.",
                violations=(
                    FieldViolation("request_id", f"at most {MAX_ID_LENGTH} characters", "SIZE_LIMIT_EXCEEDED"),
                ),
            )
        accepted_count = item_count - len(rejected)
        ordered = dict(sorted(rejected.items()))
        header = Header(
            tenant=origin.tenant,
            message_type=origin.message_type,
            received_at=received_at,
            item_count=accepted_count,
            request_id=origin.request_id,
            producer_id=origin.producer_id,
            sequence=origin.sequence,
            rejected=tuple(ordered),
        )
        if accepted_count == 0:
            # Its stream settles it, in its turn: an earlier one may not be taken yet.
            self._recent_ids.came_again(header)
            return Receipt(0, ordered, "")
        batch = Batch(header, payload, self._decode, columns)
        position, _ = await self._recent_ids.publish_once(header, lambda: self._bus.publish(batch))
        if origin.wait_queryable:
            load.only_waits()
            await self._bus.wait_committed(position)
        return Receipt(accepted_count, ordered, str(position) if position else "")

    def settle(self, origin: Origin) -> None:
        """Counts a batch of a stream as settled although nothing of it is stored; all before it must be settled."""
        self._recent_ids.settle(_empty(origin))
        self._note_settled(origin.tenant, origin.producer_id)

    def refuse_behind(self, origin: Origin) -> None:
        """Refuses later batches of a stream until one comes again that could not be looked at."""
        self._recent_ids.refused(_empty(origin))

    async def resume_after(self, tenant: str, producer_id: str, known: int | None) -> int:
        """The highest settled sequence of a producer; 0 if none is.

        Args:
            tenant: Whose producer it is.
            producer_id: Its name.
            known: What it knows to be settled itself; None: it does not know.

        Raises:
            UnavailableError: It cannot be told now.
        """
        try:
            async with asyncio.timeout(_RESUME_SECONDS):
                # What an earlier stream began is taken or not by then: its numbers could be those of other data now.
                await self._recent_ids.finished(tenant, producer_id)
                if known is None:
                    known = await self._highest_taken(tenant, producer_id)
        except TimeoutError:
            hint = ", or say what is settled in open.settled_through" if known is None else ""
            raise UnavailableError(
                f"Not all that was sent is settled yet, so it is not known where to go on. Try again{hint}.",
                retry_after=1.0,
            ) from None
        if known:
            self._recent_ids.load_producers([(tenant, producer_id, known, self.clock())])
        return self._note_settled(tenant, producer_id)

    async def _highest_taken(self, tenant: str, producer_id: str) -> int:
        """Of what the store has, if other instances fill it too, and of what was taken here."""
        here = self._recent_ids.highest_taken(tenant, producer_id)
        if self._stored is None:
            return here
        await self._bus.wait_settled(Header(tenant, "", 0, 0, producer_id=producer_id))
        highest = await self._stored.highest_sequences({(tenant, producer_id)})
        return max(here, highest.get((tenant, producer_id), 0))

    def _note_settled(self, tenant: str, producer_id: str) -> int:
        """Lets the bus know, too: it may remember a refusal of what another instance has taken since."""
        highest = self._recent_ids.highest_sequence(tenant, producer_id)
        self._bus.note_settled(tenant, producer_id, highest)
        return highest


def _empty(origin: Origin) -> Header:
    """The header of a batch of a stream that is not published."""
    return Header(origin.tenant, origin.message_type, 0, 0, "", origin.producer_id, origin.sequence)


def summarize(rejected: Iterable[FieldViolation]) -> str:
    """One sentence about refused items, for dialects that have room for no more."""
    reasons: dict[str, tuple[int, FieldViolation]] = {}
    for violation in rejected:
        count, first = reasons.get(violation.reason, (0, violation))
        reasons[violation.reason] = (count + 1, first)
    return "; ".join(
        f"{count} refused with {reason}: {first.field} {first.description}"
        for reason, (count, first) in reasons.items()
    )
