"""Bulk requests and what becomes of each of their items."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import structlog

from services.logs.store.adapters.elasticsearch_client import Elasticsearch
from services.logs.store.adapters.elasticsearch_documents import without_fields
from services.shared.errors import ResourceExhaustedError, UnavailableError

logger = structlog.get_logger(__name__)

CREATED = frozenset({200, 201, 409})
"""Statuses of an item that is there: a conflict says that it was there before."""

UNINDEXED = "unindexed"
REFUSED = "refused"

CHUNK_BYTES = 5 * 1024 * 1024
"""Of a request, unless one item has more."""

_SECONDS = 60.0
_ATTEMPTS = 5
_FIRST_DELAY = 0.2
# What an item itself is to blame for; whatever else it is answered with may pass.
_PERMANENT = frozenset(
    {
        "document_parsing_exception",
        "mapper_parsing_exception",
        "strict_dynamic_mapping_exception",
        "x_content_parse_exception",
        "parsing_exception",
    }
)
# An illegal_argument_exception is mostly about an index, as of an alias that cannot be written to: items must wait
# until that is put right. These of its reasons are about an item's keys.
_ABOUT_KEYS = ("Limit of total fields", "Field name [")


class Bulk:
    """Sends lines until each item is there, or refused for good.

    An item that the index refuses for its keys or values (a mapping that somebody changed) is sent again without
    those as fields, so that it is kept; one that is refused even so is logged and counted: others must not wait for it.

    Args:
        elasticsearch: An open connection.
        max_concurrent: Requests under way at once.
        count: Is told `UNINDEXED` or `REFUSED` for each such entry.
        sleep: Waits.
        jitter: A number in [0, 1).
    """

    def __init__(
        self,
        elasticsearch: Elasticsearch,
        max_concurrent: int = 2,
        count: Callable[[str], None] = lambda outcome: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._elasticsearch = elasticsearch
        self._slots = asyncio.Semaphore(max_concurrent)
        self._sleep = sleep
        self._jitter = jitter
        self._count = count

    async def write(self, items: Sequence[bytes], accepted: frozenset[int] = CREATED) -> None:
        """Writes items of two lines each, in as many requests as they need.

        Raises:
            ResourceExhaustedError: The disk is full.
            UnavailableError: An item is not there yet, by a fault of the store or of an index, or for want of room.
                Repeat all: what is there stays as it is.
        """
        await self.write_parts(_joined(items), accepted)

    async def write_parts(self, parts: Iterable[bytes], accepted: frozenset[int] = CREATED) -> None:
        """The same for lines that are joined to requests already."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    await self._slots.acquire()
                    task = group.create_task(self._write_part(part, accepted))
                    task.add_done_callback(lambda _: self._slots.release())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _write_part(self, part: bytes, accepted: frozenset[int]) -> None:
        reduced: set[bytes] = set()
        delay = _FIRST_DELAY
        for attempt in range(_ATTEMPTS):
            if attempt:
                await self._sleep(delay * (0.5 + self._jitter() / 2))
                delay *= 2
            part, reason = await self._attempt(part, accepted, reduced)
            if not part:
                return
        logger.warning("entries_delayed", reason=reason[:500])
        raise UnavailableError("The store takes no more at the moment.", retry_after=1.0)

    async def _attempt(self, part: bytes, accepted: frozenset[int], reduced: set[bytes]) -> tuple[bytes, str]:
        """Sends lines and gives those that must be sent again, and why one of them must."""
        answer = await self._elasticsearch.call(
            lambda client: client.bulk(
                operations=part,  # type: ignore[arg-type]
                filter_path="errors,items.*.status,items.*.error.type,items.*.error.reason",
            ),
            _SECONDS,
        )
        if not answer["errors"]:
            return b"", ""
        lines = part.split(b"\n")
        again, delayed = [], ""
        for at, item in enumerate(answer["items"]):
            (result,) = item.values()
            if result["status"] in accepted:
                continue
            action, document = lines[2 * at], lines[2 * at + 1]
            error = result.get("error", {})
            # An error in the server's own code may have no reason.
            reason = error.get("reason") or str(error.get("type"))
            if "flood-stage watermark" in reason:
                raise ResourceExhaustedError("The disk of the store is full.", reason="DISK_FULL", retry_after=30.0)
            if not _is_permanent(error.get("type", ""), reason):
                delayed = reason
                again.append(action + b"\n" + document + b"\n")
            elif action not in reduced and b'"ingest_position"' in document:
                reduced.add(action)
                again.append(without_fields(action, document))
                self._count(UNINDEXED)
                logger.warning("entry_unindexed", reason=reason[:500])
            else:
                self._count(REFUSED)
                logger.error("entry_refused", reason=reason[:500], document=action[:300].decode())
        return b"".join(again), delayed


def _is_permanent(kind: str, reason: str) -> bool:
    return kind in _PERMANENT or (kind == "illegal_argument_exception" and reason.startswith(_ABOUT_KEYS))


def _joined(items: Sequence[bytes]) -> Iterator[bytes]:
    part, size = list[bytes](), 0
    for item in items:
        if part and size + len(item) > CHUNK_BYTES:
            yield b"".join(part)
            part, size = [], 0
        part.append(item)
        size += len(item)
    if part:
        yield b"".join(part)
