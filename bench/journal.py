"""Publish throughput of the journal: how many batches a second become durable, and how long a caller waits.

Run: `python -m bench.journal [--publishers 64] [--payload-bytes 94000] [--seconds 5] [--directory PATH]`. A worker
commits alongside, so that segments are deleted and the disk stays empty. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from services.shared.bus.adapters.journal import Journal
from services.shared.bus.port import Batch, Header


def _no_columns(header: Header, payload: bytes) -> None:
    return None


async def _measure(directory: Path, publishers: int, payload_bytes: int, seconds: float) -> dict[str, float]:
    journal = Journal(directory / "journal", _no_columns)
    await journal.open()
    payload = os.urandom(payload_bytes)
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def publish(name: int) -> None:
        number = 0
        while (began := time.perf_counter()) < end:
            number += 1
            header = Header("default", "bench.Batch", time.time_ns(), 1000, f"request-{name}-{number}")
            await journal.publish(Batch(header, payload, _no_columns))
            waits.append(time.perf_counter() - began)

    async def commit() -> None:
        while True:
            await journal.commit(await journal.next_insert())

    worker = asyncio.create_task(commit())
    processor = time.process_time()
    began = time.perf_counter()
    await asyncio.gather(*(publish(name) for name in range(publishers)))
    elapsed = time.perf_counter() - began
    processor = time.process_time() - processor
    worker.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker
    await journal.close()
    return {
        "publishers": publishers,
        "payload_bytes": payload_bytes,
        "batches_per_second": round(len(waits) / elapsed),
        "batches_per_processor_second": round(len(waits) / processor),
        "megabytes_per_second": round(journal.frame_bytes / elapsed / 1e6),
        "milliseconds_median": round(statistics.median(waits) * 1e3, 2),
        "milliseconds_p99": round(statistics.quantiles(waits, n=100)[98] * 1e3, 2),
        "batches_per_sync": round(journal.frames / journal.fsyncs, 1),
        "milliseconds_per_sync": round(journal.fsync_seconds / journal.fsyncs * 1e3, 2),
    }


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publishers", type=int, default=64)
    parser.add_argument("--payload-bytes", type=int, default=94_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure; default: temporary")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        result = uvloop.run(_measure(Path(directory), arguments.publishers, arguments.payload_bytes, arguments.seconds))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
