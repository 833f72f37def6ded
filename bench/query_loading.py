"""Loads the data of `query_data` into a signal's store, as its worker writes it."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import query_data as data
from bench.query_questions import MINUTE, Sizes
from services.metrics.model import SeriesRow
from services.metrics.store.adapters.clickhouse import series_table
from services.shared.bus.port import Header, Position
from services.shared.clickhouse.client import ClickHouse

SINGULAR = {"metrics": "Metric", "logs": "Log", "traces": "Trace"}
"""How the classes of a signal begin."""
_EDGE_MINUTES = 16
_MERGE_SECONDS = 60.0


class Recording(ClickHouse):
    """Keeps the statements of queries, in the order in which they are asked."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.statements: list[tuple[str, Mapping[str, object]]] = []

    async def query(self, sql: str, parameters: Mapping[str, object] | None = None, **limits: Any) -> pa.Table:
        self.statements.append((sql, parameters or {}))
        return await super().query(sql, parameters, **limits)


def open_store(name: str, data_dir: Path) -> tuple[Recording, Any]:
    """A signal's store in the data folder, and the ClickHouse below it; both still have to be opened."""
    config = getattr(importlib.import_module(f"services.{name}.config"), f"{name.title()}Config")()
    clickhouse = Recording(f"chdb://{data_dir / name / 'clickhouse'}")
    adapter = importlib.import_module(f"services.{name}.store.adapters.clickhouse")
    return clickhouse, getattr(adapter, f"ClickHouse{SINGULAR[name]}Store")(clickhouse, config)


async def load(name: str, data_dir: Path, sizes: Sizes) -> None:
    """Fills a signal's store, and waits until what is merged is merged."""
    clickhouse, store = open_store(name, data_dir)
    await clickhouse.open()
    await store.open()
    began, number = time.monotonic(), 0
    if name == "metrics":
        series: list[SeriesRow] = []
        for columns in data.points(sizes.points, sizes.end * 1000):
            series += columns.series
            if columns.series:
                await clickhouse.insert("series", series_table(series, sizes.end * 1_000_000_000))
            await clickhouse.insert("samples", columns.samples)
    elif name == "logs":
        for number, entries in enumerate(data.lines(sizes.lines, sizes.end * 1_000_000_000)):
            await store.write([(Position(number), Header(data.TENANT, "bench", 0, 0), entries)], f"token-{number}")
    else:
        for number, spans in enumerate(data.spans(sizes.spans, sizes.end * 1_000_000_000)):
            await store.write([(Header(data.TENANT, "bench", 0, 0), spans)], f"token-{number}")
        last = sizes.end // MINUTE
        first = last - sizes.spans // data.SPANS_A_TRACE // data.TRACES_A_SECOND // MINUTE - 1
        for minute in range(first, last + 1, _EDGE_MINUTES):
            await store.refresh_edges(minute, min(minute + _EDGE_MINUTES - 1, last))
    loaded = time.monotonic() - began
    parts = await _wait_for_merges(clickhouse)
    print(f"{name}: loaded in {loaded:.0f} s; {parts}", file=sys.stderr)
    await clickhouse.close()


async def _wait_for_merges(clickhouse: ClickHouse) -> str:
    """Returns when nothing is merged any more, or after a minute; says how many parts there are."""
    until = time.monotonic() + _MERGE_SECONDS
    while time.monotonic() < until:
        (running,) = await clickhouse.rows("SELECT count() AS n FROM system.merges", timeout=10)
        if not running["n"]:
            break
        await asyncio.sleep(1)
    rows = await clickhouse.rows(
        "SELECT table, count() AS parts, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = 'airis' GROUP BY table ORDER BY table",
        timeout=10,
    )
    return ", ".join(f"{r['table']} {r['rows']} rows {r['parts']} parts {r['bytes'] >> 20} MiB" for r in rows)
