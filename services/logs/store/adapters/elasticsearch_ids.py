"""The ids of stored requests, in indices of their own, written behind the data: an id that is known has its data."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
import xxhash

from services.logs.store.adapters.elasticsearch_bulk import CREATED, Bulk
from services.logs.store.adapters.elasticsearch_client import Elasticsearch
from services.logs.store.adapters.elasticsearch_pages import Pages
from services.logs.store.adapters.elasticsearch_template import day_of, ids_index, ids_pattern
from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import UnavailableError
from services.shared.retention import DAY_NS

logger = structlog.get_logger(__name__)

_SECONDS = 60.0
_LOAD_SECONDS = 900.0
_PAGE = 10_000


class StoredIds:
    """Implements `KnownIds`. A document a request; one a producer and day, with its highest sequence.

    They are read by id, which finds a document as soon as it is written, and forgotten a day after they were stored.

    Args:
        elasticsearch: An open connection.
        bulk: Writes lines.
        prefix: Of the indices' names.
        clock: Nanoseconds since 1970.
    """

    def __init__(
        self, elasticsearch: Elasticsearch, bulk: Bulk, prefix: str, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._elasticsearch = elasticsearch
        self._bulk = bulk
        self._prefix = prefix
        self._clock = clock

    async def write(self, headers: Sequence[Header]) -> None:
        """Stores the ids of an insert. Raises: AirisError."""
        now = self._clock()
        lines, highest = [], dict[tuple[str, str], Header]()
        for header in headers:
            if header.request_id:
                lines.append(self._request(header, now))
            elif header.producer_id and header.sequence > 0:
                key = (header.tenant, header.producer_id)
                if key not in highest or header.sequence > highest[key].sequence:
                    highest[key] = header
        lines += [self._producer(header, now) for header in highest.values()]
        if lines:
            # A lower sequence than the one that is there is a conflict, and that is right.
            await self._bulk.write(lines, CREATED)

    async def known_requests(self, headers: Sequence[Header]) -> set[tuple[str, str]]:
        """See `KnownIds.known_requests`."""
        asked = {(header.tenant, header.request_id) for header in headers}
        return {(found["tenant"], found["request_id"]) for found in await self._found(asked, "request")}

    async def highest_sequences(self, producers: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """See `KnownIds.highest_sequences`."""
        highest: dict[tuple[str, str], int] = {}
        for found in await self._found(producers, "producer"):
            key = (found["tenant"], found["producer_id"])
            highest[key] = max(found["sequence"], highest.get(key, 0))
        return highest

    async def load(self, into: RecentIds) -> None:
        """Reads back the ids of the last day, the oldest first."""
        pattern = ids_pattern(self._prefix)
        await self._elasticsearch.call(lambda client: client.indices.refresh(index=pattern), _SECONDS)
        highest: dict[tuple[str, str], tuple[int, int]] = {}
        body: dict[str, Any] = {
            "size": _PAGE,
            "track_total_hits": False,
            "query": {"range": {"received_at": {"gt": self._clock() - DAY_NS}}},
            # _shard_doc breaks ties within a point in time.
            "sort": [{"received_at": {"order": "asc", "unmapped_type": "long"}}, {"_shard_doc": "asc"}],
        }

        def proceed(answer: Any) -> bool:
            hits = answer["hits"]["hits"]
            page = [hit["_source"] for hit in hits]
            into.load_requests(
                (found["tenant"], found["request_id"], found["received_at"]) for found in page if "request_id" in found
            )
            for found in page:
                if "producer_id" in found:
                    key = (found["tenant"], found["producer_id"])
                    sequence, _ = highest.get(key, (0, 0))
                    highest[key] = (max(sequence, found["sequence"]), found["received_at"])
            if len(hits) < _PAGE:
                return False
            body["search_after"] = hits[-1]["sort"]
            return True

        await Pages(self._elasticsearch).each(pattern, body, _LOAD_SECONDS, proceed, is_long=True)
        into.load_producers((*key, sequence, seen_at) for key, (sequence, seen_at) in highest.items())

    async def _found(self, asked: set[tuple[str, str]], kind: str) -> list[dict[str, Any]]:
        """The documents of these ids that were stored within a day.

        Raises:
            UnavailableError: It is not known of each whether it is there, as with a shard that still recovers.
        """
        now = self._clock()
        # Tomorrow's, too: a worker whose clock is ahead has written there.
        days = [day_of(now + days * DAY_NS) for days in (-1, 0, 1)]
        documents = [
            {"_index": ids_index(self._prefix, day), "_id": _name(kind, *each)}
            for each in sorted(asked)
            for day in days
        ]
        found = []
        for first in range(0, len(documents), _PAGE):
            part = documents[first : first + _PAGE]
            answer = await self._elasticsearch.call(lambda client, part=part: client.mget(docs=part), _SECONDS)  # type: ignore[misc]
            for document in answer["docs"]:
                error = document.get("error")
                if error and error["type"] != "index_not_found_exception":
                    logger.warning("ids_unavailable", error=str(error)[:500])
                    raise UnavailableError("A part of the store does not answer. Try again shortly.", retry_after=1.0)
                if document.get("found"):
                    found.append(document["_source"])
        return [source for source in found if source["stored_at"] > now - DAY_NS]

    def _request(self, header: Header, now: int) -> bytes:
        action = {
            "_index": ids_index(self._prefix, day_of(now)),
            "_id": _name("request", header.tenant, header.request_id),
        }
        source = {
            "tenant": header.tenant,
            "request_id": header.request_id,
            "received_at": header.received_at,
            "stored_at": now,
        }
        return _lines({"index": action}, source)

    def _producer(self, header: Header, now: int) -> bytes:
        action = {
            "_index": ids_index(self._prefix, day_of(now)),
            "_id": _name("producer", header.tenant, header.producer_id),
            "version": header.sequence,
            "version_type": "external_gte",
        }
        source = {
            "tenant": header.tenant,
            "producer_id": header.producer_id,
            "sequence": header.sequence,
            "received_at": header.received_at,
            "stored_at": now,
        }
        return _lines({"index": action}, source)


def _name(kind: str, tenant: str, identity: str) -> str:
    digest = xxhash.xxh3_128_digest("\0".join((kind, tenant, identity)).encode())
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _lines(action: dict[str, Any], source: dict[str, Any]) -> bytes:
    return json.dumps(action).encode() + b"\n" + json.dumps(source, ensure_ascii=False).encode() + b"\n"
