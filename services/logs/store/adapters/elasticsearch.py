"""Logs in Elasticsearch: an index a day, documents under ids that a repeated insert has again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import structlog

from services.logs.config import LogsConfig
from services.logs.model import (
    Arrived,
    Capabilities,
    CountQuery,
    Counts,
    Level,
    LogColumns,
    LogEntry,
    Sample,
    SearchQuery,
    Selection,
)
from services.logs.store.adapters import elasticsearch_queries as queries
from services.logs.store.adapters import elasticsearch_template as template
from services.logs.store.adapters.elasticsearch_bulk import CHUNK_BYTES, Bulk
from services.logs.store.adapters.elasticsearch_client import Elasticsearch, RefusedError
from services.logs.store.adapters.elasticsearch_counts import Largest
from services.logs.store.adapters.elasticsearch_documents import documents, entry_of, slices
from services.logs.store.adapters.elasticsearch_ids import StoredIds
from services.logs.store.adapters.elasticsearch_pages import Pages
from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import AirisError, FailedPreconditionError
from services.shared.filter import Checked

logger = structlog.get_logger(__name__)

_BUCKETS_PAGE = 20_000
_SAMPLE_CHARACTERS = 1000
_SECONDS = 60.0
# A refresh makes a segment of each shard that it touches: a trickle of entries must not make more than five a second.
_REFRESH_SECONDS = 0.2
_MAINTENANCE_SECONDS = 3600.0
_MOST_NAMED = 50
# Of a part of an insert: the lines that are made of it take several times its memory.
_MOST_ROWS = 10_000
_MOST_BYTES = 16 * 1024 * 1024


class ElasticsearchLogStore:
    """Implements `LogWriter` and `LogReader`.

    Args:
        elasticsearch: The connection.
        config: The retention, and how indices are made.
        count: Is told what became of entries that the indices refuse; see `Bulk`.
        clock: Nanoseconds since 1970.
        monotonic: Seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        elasticsearch: Elasticsearch,
        config: LogsConfig,
        count: Callable[[str], None] = lambda outcome: None,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._elasticsearch = elasticsearch
        self._config = config.elasticsearch
        self._retention_days = config.raw_retention_days
        self._prefix = config.elasticsearch.index_prefix
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._bulk = Bulk(elasticsearch, count=count, sleep=sleep)
        self._pages = Pages(elasticsearch)
        self._refreshed_at = -_REFRESH_SECONDS
        self._has_lifecycle = False
        self.ids = StoredIds(elasticsearch, self._bulk, self._prefix, clock)

    async def open(self) -> None:
        """Puts the lifecycle policy, where the server has such, and the templates. Safe to do again, and at once.

        Raises:
            FailedPreconditionError: The server lacks the plugin analysis-nori.
            UnavailableError: It does not answer.
        """
        self._has_lifecycle = await self._put_policy()
        config, prefix = self._config, self._prefix
        entries = template.entries_template(config, has_lifecycle=self._has_lifecycle)
        for name, body in ((prefix, entries), (f"{prefix}_ids", template.ids_template(config))):
            await self._put_template(f"airis-{name}", body)

    async def load_ids(self, into: RecentIds) -> None:
        """Reads back the ids of stored requests."""
        await self.ids.load(into)

    async def maintain(self) -> None:
        """Deletes indices beyond the retention, now and every hour, until cancelled."""
        while True:
            try:
                await self.delete_outlived()
            except AirisError as error:
                logger.warning("retention_delayed", error=error.message)
            await self._sleep(_MAINTENANCE_SECONDS)

    async def delete_outlived(self) -> None:
        """Deletes the indices beyond the retention: those of ids, and of entries where no lifecycle policy does."""
        now = self._clock()
        kinds = [(template.ids_pattern(self._prefix), template.ids_index, template.oldest_day(now, 2))]
        if not self._has_lifecycle:
            oldest = template.oldest_day(now, self._retention_days)
            kinds.append((template.entries_pattern(self._prefix), template.entries_index, oldest))
        for pattern, index, oldest in kinds:
            found = await self._elasticsearch.call(
                lambda client, pattern=pattern: client.indices.get_settings(index=pattern, name="index.creation_date"),  # type: ignore[misc]
                _SECONDS,
            )
            for name in template.outlived(found, partial(index, self._prefix), oldest):
                await self._elasticsearch.call(
                    lambda client, name=name: client.indices.delete(index=name, ignore_unavailable=True),  # type: ignore[misc]
                    _SECONDS,
                )
                logger.info("index_deleted", index=name, oldest=str(oldest))

    async def write(
        self, batches: Sequence[tuple[Position, Header, LogColumns]], token: str, is_repeated: bool = False
    ) -> None:
        """See `LogWriter.write`. The token is not needed: ids say which documents are there."""
        indices: set[str] = set()
        for part in slices(batches, _MOST_ROWS, _MOST_BYTES):
            made = await asyncio.to_thread(documents, part, self._prefix)
            await self._bulk.write_parts(made.chunks(CHUNK_BYTES))
            indices.update(made.indices)
        await self._refresh(sorted(indices))
        await self.ids.write([header for _, header, _ in batches])

    def capabilities(self) -> Capabilities:
        """See `LogReader.capabilities`."""
        return Capabilities(full_text=True, tail=True)

    async def search(self, query: SearchQuery, condition: Checked | None, timeout: float) -> list[LogEntry]:
        """See `LogReader.search`."""
        start, end = query.selection.start, query.selection.end
        if query.after is not None:
            # The days that earlier pages have gone through need not be asked again.
            start, end = (start, query.after.timestamp + 1) if query.newest_first else (query.after.timestamp, end)
        body = queries.search(query, condition)
        return await self._entries(queries.indices(self._prefix, start, end), body, query.limit, timeout)

    async def tail(
        self, tenant: str, condition: Checked | None, arrived: Sequence[Arrived], limit: int, timeout: float
    ) -> list[LogEntry]:
        """See `LogReader.tail`."""
        body = queries.tail(tenant, condition, arrived)
        return await self._entries(template.entries_pattern(self._prefix), body, limit, timeout)

    async def count(self, query: CountQuery, condition: Checked | None, timeout: float) -> Counts:
        """See `LogReader.count`."""
        largest = Largest(query)
        if query.selection.start < query.selection.end:
            indices = queries.indices(self._prefix, query.selection.start, query.selection.end)
            body = queries.count(query, condition, _BUCKETS_PAGE)
            composite = body["aggs"]["counts"]["composite"]

            def following(answer: Any) -> bool:
                # Without indices there is no aggregation.
                found = answer.get("aggregations", {}).get("counts", {"buckets": []})
                largest.add(found["buckets"])
                composite["after"] = found.get("after_key")
                return len(found["buckets"]) == _BUCKETS_PAGE

            await self._pages.each(indices, body, timeout, following, is_long=bool(query.group_by))
        return largest.counts()

    async def sample(self, selection: Selection, condition: Checked | None, limit: int, timeout: float) -> list[Sample]:
        """See `LogReader.sample`."""
        body = queries.search(SearchQuery(selection, newest_first=True, limit=limit), condition)
        body["_source"] = ["message", "level", "service"]
        indices = queries.indices(self._prefix, selection.start, selection.end)
        found: list[Sample] = []
        await self._pages.documents(indices, body, limit, timeout, lambda source: found.append(_sample(source)))
        return found

    async def _entries(self, indices: str, body: dict[str, Any], limit: int, timeout: float) -> list[LogEntry]:
        found: list[LogEntry] = []
        await self._pages.documents(indices, body, limit, timeout, lambda source: found.append(entry_of(source)))
        return found

    async def _put_policy(self) -> bool:
        """Whether the server has index lifecycle management: then it has our policy, too."""
        policy = template.lifecycle_policy(self._retention_days)
        try:
            await self._elasticsearch.call(
                lambda client: client.ilm.put_lifecycle(
                    name=template.policy_name(self._config.index_prefix), policy=policy
                ),
                _SECONDS,
            )
        except RefusedError as error:
            if "no handler found" not in error.answer:
                raise
            logger.info("no_lifecycle_management", effect="indices beyond the retention are deleted by the worker")
            return False
        return True

    async def _put_template(self, name: str, body: dict[str, Any]) -> None:
        try:
            await self._elasticsearch.call(
                lambda client: client.indices.put_index_template(name=name, body=body), _SECONDS
            )
        except RefusedError as error:
            if "nori_" not in error.answer:
                raise
            raise FailedPreconditionError(
                "Elasticsearch has no Korean analysis. Install it on every node with `bin/elasticsearch-plugin install "
                "analysis-nori`, restart the node, and start this service again."
            ) from error

    async def _refresh(self, indices: list[str]) -> None:
        """Makes what was written visible: an insert is committed when it can be found."""
        await self._sleep(max(self._refreshed_at + _REFRESH_SECONDS - self._monotonic(), 0.0))
        names = ",".join(indices) if len(indices) <= _MOST_NAMED else template.entries_pattern(self._prefix)
        await self._elasticsearch.call(
            lambda client: client.indices.refresh(index=names, ignore_unavailable=True), _SECONDS
        )
        self._refreshed_at = self._monotonic()


def _sample(source: dict[str, Any]) -> Sample:
    return Sample(source["message"][:_SAMPLE_CHARACTERS], Level(source["level"]), source.get("service", ""))
