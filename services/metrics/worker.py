"""What runs behind: join what was acknowledged, write it, commit."""

from __future__ import annotations

from collections.abc import Sequence

from services.metrics.model import MetricColumns
from services.metrics.series import SeriesIndex
from services.metrics.store.port import MetricWriter
from services.shared.bus.drain import DecodeAll, drain
from services.shared.bus.port import Consumer, Header
from services.shared.bus.repeats import Repeats


async def run(
    consumer: Consumer[MetricColumns],
    writer: MetricWriter,
    index: SeriesIndex,
    repeats: Repeats[MetricColumns] | None = None,
    decode_all: DecodeAll[MetricColumns] | None = None,
) -> None:
    """Stores inserts until cancelled. A series counts as known once its row is stored."""

    async def write(batches: Sequence[tuple[Header, MetricColumns]], token: str, is_repeated: bool) -> None:
        index.written(await writer.write(batches, token, is_repeated))

    await drain(consumer, write, repeats, decode_all)
