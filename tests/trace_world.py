"""What the tests of traces share: a store on a real ClickHouse in-process, and spans on their way into it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airis.traces.v1 import traces_pb2

from services.shared.bus.port import Header
from services.shared.clickhouse.client import ClickHouse
from services.traces import convert
from services.traces.config import TracesConfig
from services.traces.ingest import Checker
from services.traces.model import Span, SpanColumns
from services.traces.store.adapters.clickhouse import ClickHouseTraceStore
from services.traces.store.port import SpanWriter

CONFIG = TracesConfig(raw_retention_days=3650, rollup_retention_days=3650)
TENANT = "default"
TIMEOUT = 30.0

_tokens = (f"token-{number}" for number in itertools.count())


@contextmanager
def trace_store(place: Path | str) -> Iterator[tuple[ClickHouseTraceStore, ClickHouse]]:
    """An open store in a folder, of which one at a time may be open in a process, or by DSN."""
    dsn = f"chdb://{place}" if isinstance(place, Path) else place
    clickhouse = ClickHouse(dsn, query_threads=2, insert_threads=1)
    store = ClickHouseTraceStore(clickhouse, CONFIG)

    async def start() -> None:
        await clickhouse.open()
        await store.open()

    asyncio.run(start())
    try:
        yield store, clickhouse
    finally:
        asyncio.run(clickhouse.close())


def columns_of(spans: Iterable[Span], now_ns: int, tenant: str = TENANT) -> SpanColumns:
    """Spans as columns, by way of the wire; all must be accepted."""
    request = traces_pb2.IngestSpansRequest(spans=[convert.span(span) for span in spans])
    decoded = convert.read(convert.UNARY, [request.SerializeToString()]).items
    checked = Checker(CONFIG).check(decoded, tenant, now_ns)
    assert not checked.rejected
    return checked.columns


async def store_spans(
    store: SpanWriter, spans: Iterable[Span], now_ns: int, tenant: str = TENANT, token: str | None = None
) -> None:
    """Stores spans as one insert."""
    columns = columns_of(spans, now_ns, tenant)
    header = Header(tenant, convert.UNARY, now_ns, columns.spans.num_rows)
    await store.write([(header, columns)], token or next(_tokens))
