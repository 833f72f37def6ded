"""What it costs to store logs and traces in ClickHouse in-process: CPU an item and bytes an item, by part.

    python -m bench.storing [--signal logs] [--rows 10000 100000] [--total 400000] [--random-words] [--steps all]

Real decoded OTLP requests (`bench/payloads.py`) go into a table of each step, as the workers insert them, with a token:
"null" keeps nothing, "columns" has no codec and no index, then codecs, each index and each view are added; "before" has
the migrations up to 0003, "with 0004" those up to 0004, "as it is" all. The CPU is that of the whole process
(`time.process_time`), with the threads of ClickHouse, and with merges awaited. A step runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.payloads import ITEMS, base_before, payloads
from services.logs import convert as logs_convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker as LogChecker
from services.shared.clickhouse.client import ClickHouse
from services.traces import convert as traces_convert
from services.traces.config import TracesConfig
from services.traces.ingest import Checker as SpanChecker

MAIN = {"logs": "logs", "traces": "spans"}
_TIMEOUT = 600.0
_QUIET_SECONDS = 0.5
_VERSIONS = {"before": "0003", "with 0004": "0004", "as it is": "9999"}
_WORDS = (
    "quick",
    "brown",
    "fox",
    "lazy",
    "dog",
    "payment",
    "order",
    "failed",
    "timeout",
    "결제",
    "주문",
    "서버",
    "오류",
)


def statements(signal: str) -> dict[str, list[str]]:
    """The steps and what makes their tables."""
    folder = files(f"services.{signal}.store") / "sql"
    texts = {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".sql")}
    parts = {
        name: [part.strip().rstrip(";") for part in text.split(";\n") if part.strip()] for name, text in texts.items()
    }
    first = parts[f"0001_{signal}.sql"]
    table = _creating(first, f"airis.{MAIN[signal]}")
    lines = table.split("\n")
    indexes = [line.strip().rstrip(",") for line in lines if line.strip().startswith("INDEX ")]
    without = re.sub(r",\n\)", "\n)", "\n".join(line for line in lines if not line.strip().startswith("INDEX ")))
    plain = re.sub(r" CODEC\([^)]*\)", "", without)
    null = re.sub(r"ENGINE = .*", "ENGINE = Null", plain, flags=re.DOTALL)
    steps = {"null": [null], "columns": [plain], "codecs": [without]}
    for index in indexes:
        steps[f"codecs, index {index.split()[1]}"] = [without.replace("\n)\nENGINE", f",\n    {index}\n)\nENGINE")]
    for view in (part for part in first if "MATERIALIZED VIEW" in part):
        target = re.findall(r" TO (airis\.\w+)", view)[0]
        steps[f"null, view {target.removeprefix('airis.')}"] = [null, _creating(first, target), view]
    for name, last in _VERSIONS.items():
        steps[name] = [part for file in sorted(parts) if file[:4] <= last for part in parts[file]]
    return steps


def _creating(parts: Sequence[str], table: str) -> str:
    return next(part for part in parts if f"CREATE TABLE IF NOT EXISTS {table}\n" in part)


def blocks(signal: str, total: int, rows: int, *, random_words: bool) -> Iterator[pa.Table]:
    """The columns of about so many items, `rows` an insert (rounded to whole requests)."""
    now = time.time_ns()
    source = payloads(signal, base_before(now))
    decode = _decoder(signal, now)
    per_insert = max(1, round(rows / ITEMS[signal]))
    for first in range(0, max(per_insert, total // ITEMS[signal]), per_insert):
        joined = pa.concat_tables(
            [decode(source.request(number), number) for number in range(first, first + per_insert)]
        )
        yield _with_random_words(joined, first) if random_words and signal == "logs" else joined


def _decoder(signal: str, now: int) -> Callable[[bytes, int], pa.Table]:
    if signal == "traces":
        name, spans = ExportTraceServiceRequest.DESCRIPTOR.full_name, SpanChecker(TracesConfig())
        return lambda body, _: spans.check(traces_convert.read(name, [body]).items, "default", now).columns.spans
    name, entries = ExportLogsServiceRequest.DESCRIPTOR.full_name, LogChecker(LogsConfig())

    def logs(body: bytes, number: int) -> pa.Table:
        table = entries.check(logs_convert.read(name, [body]).items, "default", now).columns.entries
        position = pc.add(table.column("index").cast(pa.uint64()), pa.scalar((number + 1) << 18, pa.uint64()))
        return table.drop_columns("index").append_column("ingest_position", position)

    return logs


def _with_random_words(table: pa.Table, seed: int) -> pa.Table:
    chance = random.Random(seed)
    texts = [
        " ".join(chance.choices(_WORDS, k=30))[:170] + f" {chance.getrandbits(64):x}" for _ in range(table.num_rows)
    ]
    place = table.schema.get_field_index("message")
    return table.set_column(place, "message", pa.array(texts))


async def run_step(signal: str, step: str, rows: int, total: int, *, random_words: bool) -> dict[str, Any]:
    """The figures of one step, an item each: microseconds of CPU, rows that merges wrote, bytes on disk."""
    # Made before, so that the CPU is that of storing alone, also while merges go on.
    made = [block.combine_chunks() for block in blocks(signal, total, rows, random_words=random_words)]
    items = sum(block.num_rows for block in made)
    with tempfile.TemporaryDirectory(prefix="storing-") as folder:
        clickhouse = ClickHouse(f"chdb://{folder}/data", insert_threads=1, query_threads=1)
        await clickhouse.open()
        for statement in statements(signal)[step]:
            await clickhouse.command(statement)
        begin = time.process_time()
        for number, block in enumerate(made):
            await clickhouse.insert(MAIN[signal], block, token=f"insert-{number}")
        inserted = time.process_time()
        await _quiet(clickhouse)
        result: dict[str, Any] = {
            "insert": (inserted - begin) / items * 1e6,
            "merged": (time.process_time() - begin) / items * 1e6,
            "times": await _merged_rows(clickhouse) / items,
            "bytes": await _bytes(clickhouse, items),
        }
        if not step.startswith("null"):
            begin = time.process_time()
            for table in await _tables(clickhouse):
                await clickhouse.command(f"OPTIMIZE TABLE airis.{table} FINAL")
            result["whole merge"] = (time.process_time() - begin) / items * 1e6
            result["bytes then"] = await _bytes(clickhouse, items)
            result["columns"] = await _by_column(clickhouse, items)
        await clickhouse.close()
    return result


async def _quiet(clickhouse: ClickHouse) -> None:
    """Waits until nothing was merged for a while."""
    seen = time.monotonic()
    while time.monotonic() - seen < _QUIET_SECONDS:
        rows = await clickhouse.rows(
            "SELECT count() AS n FROM system.merges WHERE database = 'airis'", timeout=_TIMEOUT
        )
        seen = time.monotonic() if rows[0]["n"] else seen
        await asyncio.sleep(0.1)


async def _merged_rows(clickhouse: ClickHouse) -> int:
    rows = await clickhouse.rows("SELECT value AS n FROM system.events WHERE event = 'MergedRows'", timeout=_TIMEOUT)
    return int(rows[0]["n"]) if rows else 0


async def _tables(clickhouse: ClickHouse) -> list[str]:
    rows = await clickhouse.rows(
        "SELECT DISTINCT table FROM system.parts WHERE database = 'airis' AND active AND table != 'migrations'",
        timeout=_TIMEOUT,
    )
    return [row["table"] for row in rows]


async def _bytes(clickhouse: ClickHouse, items: int) -> float:
    rows = await clickhouse.rows(
        "SELECT sum(bytes_on_disk) AS n FROM system.parts WHERE database = 'airis' AND active", timeout=_TIMEOUT
    )
    return float(rows[0]["n"]) / items


async def _by_column(clickhouse: ClickHouse, items: int) -> dict[str, float]:
    rows = await clickhouse.rows(
        "SELECT concat(table, '.', column) AS name, sum(column_data_compressed_bytes + column_marks_bytes) AS n "
        "FROM system.parts_columns WHERE database = 'airis' AND active GROUP BY name "
        "UNION ALL SELECT concat(table, ' index ', name) AS name, data_compressed_bytes + marks_bytes AS n "
        "FROM system.data_skipping_indices WHERE database = 'airis' ORDER BY n DESC",
        timeout=_TIMEOUT,
    )
    return {row["name"]: row["n"] / items for row in rows if row["n"] / items >= 0.1}


def _measured(arguments: argparse.Namespace, step: str, rows: int) -> dict[str, Any]:
    """The run with the least CPU of several, each in a process of its own."""
    command = [sys.executable, "-m", "bench.storing", "--signal", arguments.signal, "--rows", str(rows)]
    command += ["--total", str(arguments.total), "--child", step]
    command += ["--random-words"] if arguments.random_words else []
    runs = []
    for _ in range(arguments.repeats):
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        runs.append(json.loads(output.splitlines()[-1]))
    least: dict[str, Any] = min(runs, key=lambda run: run["merged"])
    return least


def main() -> None:
    """Prints a line a step, and what takes the bytes of the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signal", choices=sorted(MAIN), default="logs")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 50_000, 100_000])
    parser.add_argument("--total", type=int, default=400_000)
    parser.add_argument("--random-words", action="store_true", help="bodies of logs without a template")
    parser.add_argument("--steps", nargs="+", help="their names; all")
    parser.add_argument("--repeats", type=int, default=1, help="the least counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run = run_step(
            arguments.signal,
            arguments.child,
            arguments.rows[0],
            arguments.total,
            random_words=arguments.random_words,
        )
        print(json.dumps(asyncio.run(run)))
        return
    print("CPU in ms per 1,000 items; bytes an item; `times` is how often merges wrote an item")
    for rows in arguments.rows:
        for step in arguments.steps or statements(arguments.signal):
            run = _measured(arguments, step, rows)
            figures = "  ".join(f"{name} {value:6.2f}" for name, value in run.items() if isinstance(value, float))
            print(f"{arguments.signal} {rows:7,} rows  {step:32s} {figures}", flush=True)
            if step in _VERSIONS:
                print("    " + ", ".join(f"{name} {value:.2f}" for name, value in run.get("columns", {}).items()))


if __name__ == "__main__":
    main()
