"""What the stores have of each batch, asked of the stores themselves, beside our services."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from faults.history import Stored
from faults.items import NAME, trace_id

_CLICKHOUSE = {
    "metrics": "SELECT labels['batch'] AS batch, count() AS items, uniqExact(value) AS different FROM airis.samples "
    "INNER JOIN (SELECT DISTINCT series_id, labels FROM airis.series WHERE metric = {name:String}) AS series "
    "USING (series_id) WHERE metric = {name:String} GROUP BY batch",
    "logs": "SELECT labels['batch'] AS batch, count() AS items, uniqExact(message) AS different FROM airis.logs "
    "WHERE service = {name:String} GROUP BY batch",
    "traces": "SELECT concat(tag_string['batch'], '@', trace_id) AS batch, count() AS items, "
    "uniqExact(span_id) AS different FROM airis.spans WHERE service = {name:String} GROUP BY batch",
}
# What is rolled up goes its own way into its own table: it must not be doubled either.
_ROLLED_UP = {
    "metrics": (
        "SELECT sum(count) FROM airis.samples_1m WHERE metric = {name:String}",
        "SELECT sum(count) FROM airis.samples_1h WHERE metric = {name:String}",
    ),
    "logs": ("SELECT sum(count) FROM airis.logs_1m WHERE service = {name:String}",),
    "traces": (
        # Others' traces, such as the platform's own, are there too.
        "SELECT sum(span_count) FROM airis.traces WHERE trace_id IN "
        "(SELECT trace_id FROM airis.spans WHERE service = {name:String})",
        "SELECT sum(count) FROM airis.span_red_1m WHERE service = {name:String}",
    ),
}
# Elasticsearch gives at most 65,536 buckets in one answer, and holds all of it on its heap.
_BATCHES_AT_ONCE = 10_000
_COUNTED_AT_ONCE, _MOST_ITEMS = 100, 500
_CHDB = Path(__file__).with_name("chdb_rows.py")
_LINE_BYTES = 256 * 1024 * 1024


class ReadBack:
    """Reads what is stored.

    Args:
        clickhouse: Host and port of HTTP.
        elasticsearch: Host and port, where the logs are; None: they are in ClickHouse.
        log_index: The pattern of their indices.
    """

    def __init__(self, clickhouse: str, elasticsearch: str | None = None, log_index: str = "") -> None:
        self._clickhouse = f"http://{clickhouse}/"
        self._search = f"http://{elasticsearch}/{log_index}" if elasticsearch else ""

    async def stored(self, signal: str) -> dict[str, Stored]:
        """What there is of each batch of a signal."""
        if signal == "logs" and self._search:
            return await self._from_elasticsearch()
        rows = await self._query(_CLICKHOUSE[signal])
        found = {row["batch"]: Stored(int(row["items"]), int(row["different"])) for row in rows}
        if signal == "traces":
            found = {_own_trace(name): stored for name, stored in found.items()}
        return found

    async def rolled_up(self, signal: str) -> list[int]:
        """How many items each rollup has counted."""
        if signal == "logs" and self._search:
            return []
        return [int(next(iter((await self._query(text))[0].values()))) for text in _ROLLED_UP[signal]]

    async def _query(self, statement: str) -> list[dict[str, Any]]:
        parameters = {"param_name": NAME, "default_format": "JSONEachRow", "output_format_json_quote_64bit_integers": 0}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as http,
            http.post(self._clickhouse, params=parameters, data=statement) as answer,
        ):
            text = await answer.text()
            assert answer.status == 200, text
            return [json.loads(line) for line in text.splitlines()]

    async def _from_elasticsearch(self) -> dict[str, Stored]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as http:
            async with http.post(f"{self._search}/_refresh") as refreshed:
                assert refreshed.status in (200, 404), await refreshed.text()
            about = {"field": "timestamp", "precision_threshold": 1000}
            buckets = await _batches(http, self._search, {"term": {"service": NAME}}, {"cardinality": about})
            found = {each["key"]: Stored(each["doc_count"], each["moments"]["value"]) for each in buckets}
            # A cardinality may be too low by those whose hashes collide, and never is too high: where some seem to be
            # alike they are counted one by one.
            alike = [name for name, stored in found.items() if stored.items != stored.distinct]
            for first in range(0, len(alike), _COUNTED_AT_ONCE):
                chosen = {"terms": {"labels.batch": alike[first : first + _COUNTED_AT_ONCE]}}
                each_moment = {"terms": {"field": "timestamp", "size": _MOST_ITEMS}}
                for each in await _batches(http, self._search, chosen, each_moment):
                    found[each["key"]] = Stored(each["doc_count"], len(each["moments"]["buckets"]))
        return found


async def _batches(
    http: aiohttp.ClientSession, index: str, query: dict[str, Any], moments: dict[str, Any]
) -> list[dict[str, Any]]:
    """The batches of the entries that match, each with what is to be told of its moments."""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"size": _BATCHES_AT_ONCE, "sources": [{"name": {"terms": {"field": "labels.batch"}}}]}
    while True:
        body = {"size": 0, "query": query, "aggs": {"batches": {"composite": page, "aggs": {"moments": moments}}}}
        async with http.post(f"{index}/_search", json=body) as answer:
            read = await answer.json()
            assert answer.status == 200, read
        batches = read.get("aggregations", {}).get("batches", {})
        found += [{**each, "key": each["key"]["name"]} for each in batches.get("buckets", [])]
        if "after_key" not in batches:
            return found
        page["after"] = batches["after_key"]


class ChdbReadBack(ReadBack):
    """`async with ChdbReadBack(folder) as store:` reads a ClickHouse that no service has open.

    Args:
        folder: Its data.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("")
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        # A process of its own: it gives everything back when it ends, and may crash on its own.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_CHDB),
            str(self._folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def _query(self, statement: str) -> list[dict[str, Any]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([statement, {"name": NAME}]).encode() + b"\n")
        line = await self._process.stdout.readline()
        assert line, f"ClickHouse ended over {statement}"
        return list(json.loads(line))


def _own_trace(name: str) -> str:
    batch, _, trace = name.rpartition("@")
    return batch if trace == trace_id(batch) else name
