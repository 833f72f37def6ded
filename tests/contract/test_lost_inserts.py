"""A ClickHouse that is killed between noting an insert's token and keeping its rows comes back with the token alone, in
one of the tables: the insert is repeated, and nothing of it is missing or there twice."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_signals import METRICS, ROWS, Signal, header, points, signals, stored
from clickhouse_world import ENGINES, dsn_of, opened

from services.metrics.config import MetricsConfig
from services.metrics.model import MetricColumns
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.bus.port import Header
from services.shared.clickhouse import inserts
from services.shared.clickhouse.client import ClickHouse

# What would not be the same with other rows.
CONTENT = {
    "samples": "sum(value + toUnixTimestamp(timestamp))",
    "samples_1m": "(sum(sum), min(min), max(max), argMaxMerge(last))",
    "samples_1h": "(sum(sum), min(min), max(max), argMaxMerge(last))",
    "logs": "(uniqExact(message), sum(ingest_position))",
    "logs_1m": "sum(count)",
    "spans": "uniqExact(trace_id, span_id)",
    "traces": "(uniqExact(trace_id), max(finished_ns))",
    "span_red_1m": "(sum(duration_sum), quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(durations))",
}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes here, for whom one would have to wait."""
    monkeypatch.setattr(inserts, "_LOOK_SECONDS", 0.0)


# Inserts of the same minutes come before the one that is lost and after it.
BEFORE, LOST, AFTER = [0, 1], 2, [3, 4]


async def partitions(clickhouse: ClickHouse, table: str) -> list[str]:
    rows = await clickhouse.rows(f"SELECT DISTINCT _partition_id AS id FROM airis.{table} ORDER BY id", timeout=30)
    return [row["id"] for row in rows]


async def move(clickhouse: ClickHouse, table: str, to: str) -> None:
    for partition in await partitions(clickhouse, table):
        await clickhouse.command(f"ALTER TABLE airis.{table} MOVE PARTITION ID '{partition}' TO TABLE airis.{to}")


async def lose(clickhouse: ClickHouse, signal: Signal, table: str) -> None:
    """Writes an insert, and lets one table have only what it had before, and its token."""
    await clickhouse.command(f"CREATE TABLE airis.before AS airis.{table}")
    await clickhouse.command(f"INSERT INTO airis.before SELECT * FROM airis.{table}")
    await signal.write(LOST)
    await clickhouse.command(f"ALTER TABLE airis.{table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    await move(clickhouse, "before", table)
    await clickhouse.command("DROP TABLE airis.before SYNC")


async def content(clickhouse: ClickHouse, signal: Signal) -> dict[str, object]:
    return {
        table: (await clickhouse.rows(f"SELECT {CONTENT[table]} AS content FROM airis.{table}", timeout=30))[0]
        for table in signal.figures
    }


async def tables(clickhouse: ClickHouse) -> list[str]:
    rows = await clickhouse.rows(
        "SELECT name FROM system.tables WHERE database = {database:String} ORDER BY name",
        {"database": clickhouse.database},
        timeout=30,
    )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("which", range(3))
async def test_what_one_table_has_lost_is_there_once_after_the_repetition(
    engine: str, which: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            if which >= len(signal.figures):
                continue
            table = list(signal.figures)[which]
            await signal.open()
            there = await tables(clickhouse)
            for number in BEFORE:
                await signal.write(number)
            await lose(clickhouse, signal, table)
            for number in AFTER:
                await signal.write(number)
            whole = (len(BEFORE) + 1 + len(AFTER)) * ROWS

            # ClickHouse by itself takes it for stored.
            await signal.write(LOST)
            lacking = {**dict.fromkeys(signal.figures, whole), table: whole - ROWS}
            assert await stored(clickhouse, signal) == lacking

            await signal.write(LOST, is_repeated=True)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, whole), table
            mended = await content(clickhouse, signal)
            for number in [*BEFORE, LOST, *AFTER]:
                await signal.write(number, is_repeated=True)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, whole), table
            assert await tables(clickhouse) == there

            for emptied in signal.figures:
                await clickhouse.command(f"TRUNCATE TABLE airis.{emptied}")
            for number in [*BEFORE, LOST, *AFTER]:
                await signal.write_batches(f"afresh-{number}", [number], False)
            assert await content(clickhouse, signal) == mended


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_insert_that_was_cut_off_before_it_began_is_stored(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await signal.write(0, is_repeated=True)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, ROWS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("table", ["series", "metric_known_ids", "log_known_ids", "span_known_ids"])
async def test_labels_and_ids_are_written_again_by_a_repetition(
    engine: str, table: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await signal.write(0)
        await clickhouse.command(f"ALTER TABLE airis.{table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
        for signal in signals(clickhouse):
            await signal.write(0, is_repeated=True)
        rows = await clickhouse.rows(f"SELECT count() AS n FROM airis.{table} FINAL", timeout=30)
        assert rows == [{"n": 1}]


@pytest.mark.parametrize("engine", ENGINES)
async def test_points_that_have_gone_since_because_of_their_age_bring_nothing_back(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    day, now = 86_400_000, time.time_ns() // 1_000_000
    made = points(0)
    times = pa.array([now - day - 3_600_000 if row % 2 else now for row in range(ROWS)], pa.int64())
    samples = made.samples.set_column(
        made.samples.schema.get_field_index("timestamp"), "timestamp", times.cast(pa.timestamp("ms", tz="UTC"))
    )
    batches = [(header(0), MetricColumns(samples, made.distributions, made.series))]
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        store = ClickHouseMetricStore(clickhouse, MetricsConfig(raw_retention_days=1))
        await store.open()
        await store.write(batches, "token")
        await clickhouse.command("OPTIMIZE TABLE airis.samples FINAL")
        count = "SELECT count() AS n FROM airis.samples"
        assert await clickhouse.rows(count, timeout=30) == [{"n": ROWS // 2}]
        await store.write(batches, "token", is_repeated=True)
        assert await clickhouse.rows(count, timeout=30) == [{"n": ROWS // 2}]


def telling(kind: str, number: int, column: str, value: object) -> tuple[Header, MetricColumns]:
    """Insert n: points, or distributions, of moments that others have too, all with the same in one column."""
    made = points(0)
    samples = made.samples.drop_columns("value")
    values = pa.array([value] * ROWS, pa.list_(pa.uint64()) if isinstance(value, list) else pa.float64())
    if kind == "samples":
        return header(number), MetricColumns(samples.append_column(column, values), made.distributions, made.series)
    distributions = samples.append_column("count", pa.array([1] * ROWS, pa.uint64())).append_column(column, values)
    return header(number), MetricColumns(samples.slice(0, 0), distributions, made.series)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("kind", "column", "values"),
    [
        ("samples", "value", {"1": 1.0, "-0": -0.0, "0": 0.0}),
        ("distributions", "sum", {"-0": -0.0, "0": 0.0, None: None}),
        ("distributions", "bucket_counts", {"[1,0]": [1, 0], "[0,1]": [0, 1], "[]": []}),
    ],
)
async def test_points_of_the_same_moments_as_others_are_missed_too(
    engine: str,
    kind: str,
    column: str,
    values: dict[str | None, object],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    made = {text: [telling(kind, number, column, value)] for number, (text, value) in enumerate(values.items())}
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        store = ClickHouseMetricStore(clickhouse, METRICS)
        await store.open()
        for text, batches in made.items():
            await store.write(batches, f"token-{text}")
        for text, batches in made.items():
            await clickhouse.command(
                f"ALTER TABLE airis.{kind} DELETE WHERE toString({column}) <=> {{text:Nullable(String)}} "
                "SETTINGS mutations_sync = 2",
                {"text": text},
            )
            there = []
            for _ in range(3):
                there.append((await clickhouse.rows(f"SELECT count() AS n FROM airis.{kind}", timeout=30))[0]["n"])
                await store.write(batches, f"token-{text}", is_repeated=True)
            whole = len(values) * ROWS
            assert there == [whole - ROWS, whole, whole], text


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the driver's file is used")
async def test_an_insert_needs_no_temporary_file_which_a_kill_would_leave_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there is no such folder"))
    async with opened(f"chdb://{tmp_path / 'store'}") as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await signal.write(0)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, ROWS)


async def test_in_this_process_nobody_waits_for_other_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: float) -> None:
        raise AssertionError("waited for another worker")

    monkeypatch.setattr(inserts.Inserts.__init__, "__defaults__", (refuse,))
    async with opened(f"chdb://{tmp_path}") as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await lose(clickhouse, signal, list(signal.figures)[-1])
            await signal.write(LOST, is_repeated=True)
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, ROWS)


@pytest.mark.servers
async def test_what_another_worker_has_not_finished_is_not_taken_for_lost(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: list[Signal] = []

    async def meanwhile(_: float) -> None:
        if other:
            await other.pop().write_batches("theirs", [0], True)

    monkeypatch.setattr(inserts.Inserts.__init__, "__defaults__", (meanwhile,))
    async with opened(dsn_of("clickhouse", request, tmp_path)) as clickhouse:
        for signal in signals(clickhouse):
            await signal.open()
            await signal.write_batches("ours", [0], False)
            # Equal rows, which the server was killed over before it came to the views.
            views = await clickhouse.rows(
                "SELECT name, create_table_query AS text FROM system.tables WHERE database = {database:String} "
                "AND engine = 'MaterializedView' AND endsWith(extract(as_select, 'FROM ([^ ]+)'), {source:String})",
                {"database": clickhouse.database, "source": f".{next(iter(signal.figures))}"},
                timeout=30,
            )
            assert len(views) == len(signal.figures) - 1
            for view in views:
                await clickhouse.command(f"DROP TABLE airis.{view['name']} SYNC")
            await signal.write_batches("theirs", [0], False)
            for view in views:
                await clickhouse.command(view["text"])
            other.append(signal)
            await signal.write_batches("ours", [0], True)
            assert not other, "nobody waited for the other worker"
            assert await stored(clickhouse, signal) == dict.fromkeys(signal.figures, 2 * ROWS), signal.name


@pytest.mark.parametrize("engine", ENGINES)
async def test_what_somebody_left_behind_is_gone_after_an_hour(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(dsn_of(engine, request, tmp_path)) as clickhouse:
        metrics = signals(clickhouse)[0]
        await metrics.open()
        # Of somebody else, who may name a table as he likes.
        await clickhouse.command("CREATE TABLE airis.repeated_samples_by_hand AS airis.samples")
        there = await tables(clickhouse)
        left = "repeated_samples_0123456789abcdef"
        for name in (left, f"{left}_missing"):
            await clickhouse.command(f"CREATE TABLE airis.{name} AS airis.samples")
        await metrics.open()
        assert left in await tables(clickhouse)
        monkeypatch.setattr(inserts, "_ABANDONED_SECONDS", -10)
        await metrics.open()
        assert await tables(clickhouse) == there
