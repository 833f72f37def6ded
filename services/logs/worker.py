"""What runs behind: join what was acknowledged, write it, commit."""

from __future__ import annotations

from services.logs.model import LogColumns
from services.logs.store.port import LogWriter
from services.shared.bus.drain import DecodeAll, drain_placed
from services.shared.bus.port import Consumer
from services.shared.bus.repeats import Repeats


async def run(
    consumer: Consumer[LogColumns],
    writer: LogWriter,
    repeats: Repeats[LogColumns] | None = None,
    decode_all: DecodeAll[LogColumns] | None = None,
) -> None:
    """Stores inserts until cancelled."""
    await drain_placed(consumer, writer.write, repeats, decode_all)
