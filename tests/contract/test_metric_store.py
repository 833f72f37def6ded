"""What every metric store promises, on real engines. Answers are compared with an independent calculation."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pyarrow as pa
import pytest
import pytest_asyncio
from clickhouse_world import ENGINES, dsn_of, opened

from services.metrics.config import MetricsConfig
from services.metrics.model import Aggregation, Kind, MetricColumns, RangeQuery, SeriesRow
from services.metrics.query import MetricQuery
from services.metrics.series import series_id
from services.metrics.store.adapters.clickhouse import ClickHouseMetricStore
from services.shared.bus.port import Header, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import FailedPreconditionError, ResourceExhaustedError

BASE = 1_790_000_000_000 // 3_600_000 * 3_600_000
NOW = BASE + 4 * 3_600_000
# What ClickHouse itself takes for now is years later, some day.
KEPT_DAYS = 3650
SAMPLES = [
    (host, BASE + 1_234 + number * 7_000, float((number * 37 + len(host)) % 101))
    for host in ("a", "bb", "ccc")
    for number in range(1200)
]


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ClickHouseMetricStore]:
    async with opened(dsn_of(request.param, request, tmp_path_factory.mktemp("clickhouse"))) as clickhouse:
        store = ClickHouseMetricStore(
            clickhouse, MetricsConfig(raw_retention_days=KEPT_DAYS, rollup_retention_days=KEPT_DAYS)
        )
        await store.open()
        for first in range(0, len(SAMPLES), 500):
            await store.write([(header(first), columns("cpu", SAMPLES[first : first + 500]))], f"token-{first}")
        # The same insert again, as after a crash.
        await store.write([(header(0), columns("cpu", SAMPLES[:500]))], "token-0")
        yield store


def header(number: int, received_at: int = NOW) -> Header:
    return Header("default", "test", received_at * 1_000_000, 1, request_id=f"request-{number}", producer_id="")


def columns(metric: str, rows: list[tuple[str, int, float]], kind: str = "GAUGE") -> MetricColumns:
    identity = {host: series_id("default", metric, kind, "", {"host": host}) for host, _, _ in rows}
    samples = pa.table(
        {
            "tenant": ["default"] * len(rows),
            "metric": [metric] * len(rows),
            "series_id": pa.array([identity[host] for host, _, _ in rows], pa.uint64()),
            "timestamp": pa.array([at for _, at, _ in rows], pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            "start_time": pa.array([0] * len(rows), pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            "value": pa.array([value for _, _, value in rows], pa.float64()),
        }
    )
    series = [SeriesRow("default", metric, i, kind, "", {"host": host}, "") for host, i in identity.items()]
    return MetricColumns(samples, pa.table({"tenant": pa.array([], pa.string())}), series)


def ask(aggregation: Aggregation, start: int, end: int, step: int, **fields: object) -> RangeQuery:
    values: dict[str, object] = {
        "tenant": "default",
        "metric": "cpu",
        "filter": "",
        "start": start,
        "end": end,
        "step": step,
        "aggregation": aggregation,
        "quantile": 0.9,
        "group_by": ("host",),
        "max_series": 1000,
        **fields,
    }
    return RangeQuery(**values)  # type: ignore[arg-type]


def quantile(values: list[float]) -> float:
    ordered, rank = sorted(values), 0.9 * (len(values) - 1)
    low = int(rank)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (rank - low)


REFERENCE: dict[Aggregation, Callable[[list[float]], float]] = {
    Aggregation.SUM: sum,
    Aggregation.AVG: statistics.fmean,
    Aggregation.MIN: min,
    Aggregation.MAX: max,
    Aggregation.COUNT: lambda values: float(len(values)),
    Aggregation.LAST: lambda values: values[-1],
    Aggregation.QUANTILE: quantile,
}
RANGES = [
    (BASE, BASE + 7_200_000, 3_600_000, 3_600_000),
    (BASE + 61_500, BASE + 5_000_000, 120_000, 60_000),
    (BASE + 1_000, BASE + 900_123, 5_000, 0),
    (BASE + 17, BASE + 8_000_000, 3_600_000, 3_600_000),
    (BASE + 30_000, BASE + 50_000, 0, 0),
]


@pytest.mark.parametrize("aggregation", list(REFERENCE))
@pytest.mark.parametrize(("start", "end", "step", "resolution"), RANGES)
async def test_an_aggregation_is_exact_whatever_data_answers_it(
    store: ClickHouseMetricStore, aggregation: Aggregation, start: int, end: int, step: int, resolution: int
) -> None:
    query = ask(aggregation, start, end, step or end - start)
    result = await MetricQuery(store).query(query, NOW, 10.0)
    expected: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for host, at, value in SAMPLES:
        if start <= at < end:
            expected[host][at // step * step if step else start].append(value)
    assert result.resolution == (0 if aggregation is Aggregation.QUANTILE else resolution)
    assert [series.labels["host"] for series in result.series] == sorted(expected)
    for series in result.series:
        reference = {
            at: REFERENCE[aggregation](values) for at, values in sorted(expected[series.labels["host"]].items())
        }
        assert series.timestamps == list(reference)
        assert series.values == pytest.approx(list(reference.values()), rel=1e-12)


async def test_last_over_several_series_is_the_sum_of_their_newest(store: ClickHouseMetricStore) -> None:
    query = ask(Aggregation.LAST, BASE, BASE + 7_200_000, 7_200_000, group_by=())
    (series,) = (await MetricQuery(store).query(query, NOW, 10.0)).series
    newest = {host: value for host, at, value in SAMPLES if at < BASE + 7_200_000}
    assert series.values == [sum(newest.values())]


async def test_an_increase_counts_resets_and_what_a_range_cuts_off(store: ClickHouseMetricStore) -> None:
    values = [(0, 10.0), (10, 15.0), (20, 3.0), (30, 7.0), (70, 9.0)]
    rows = [("a", BASE + 600_000 + at * 1000, value) for at, value in values]
    await store.write([(header(-1), columns("requests", rows, "COUNTER"))], "counter")
    start = BASE + 605_000
    query = ask(Aggregation.INCREASE, start, start + 65_000, 0, metric="requests")
    increase = await MetricQuery(store).query(replace(query, step=100_000), NOW, 10.0)
    assert increase.series[0].values == [5 + 3 + 4]
    rate = await MetricQuery(store).query(replace(query, aggregation=Aggregation.RATE, step=60_000), NOW, 10.0)
    at = start // 60_000 * 60_000
    assert rate.series[0].timestamps == [at]
    assert rate.series[0].values == pytest.approx([12 / ((at + 60_000 - start) / 1000)])


async def test_a_delta_increase_is_the_sum(store: ClickHouseMetricStore) -> None:
    rows = [("a", BASE + 700_000 + at, float(at)) for at in (1, 2, 3)]
    await store.write([(header(-2), columns("deltas", rows, "DELTA_COUNTER"))], "deltas")
    query = ask(Aggregation.INCREASE, BASE, BASE + 3_600_000, 3_600_000, metric="deltas")
    assert (await MetricQuery(store).query(query, NOW, 10.0)).series[0].values == [6.0]


async def test_raw_aggregations_are_refused_beyond_the_retention(store: ClickHouseMetricStore) -> None:
    late = BASE + (KEPT_DAYS + 1) * 86_400_000
    with pytest.raises(FailedPreconditionError) as caught:
        await MetricQuery(store).query(ask(Aggregation.RATE, BASE, BASE + 60_000, 0), late, 10.0)
    assert caught.value.reason == "BEYOND_RETENTION"


async def test_figures_outlive_raw_data_and_what_only_raw_data_knows_is_refused(store: ClickHouseMetricStore) -> None:
    late = BASE + (KEPT_DAYS + 1) * 86_400_000
    chosen = await MetricQuery(store).query(ask(Aggregation.SUM, BASE, BASE + 3_600_000, 0), late, 10.0)
    assert (chosen.resolution, chosen.step) == (60_000, 60_000)
    assert sum(chosen.series[0].values) == sum(v for host, at, v in SAMPLES if host == "a" and at < BASE + 3_600_000)
    for step in (5_000, 90_000):
        with pytest.raises(FailedPreconditionError) as caught:
            await MetricQuery(store).query(ask(Aggregation.SUM, BASE, BASE + 3_600_000, step), late, 10.0)
        assert caught.value.reason == "BEYOND_RETENTION"


async def test_where_raw_data_has_gone_the_bucket_a_range_begins_in_counts_whole(store: ClickHouseMetricStore) -> None:
    late = BASE + (KEPT_DAYS + 1) * 86_400_000
    query = ask(Aggregation.COUNT, BASE + 90_000, BASE + 240_000, 60_000)
    result = await MetricQuery(store).query(query, late, 10.0)
    expected = [
        sum(host == "a" and at // 60_000 == minute // 60_000 for host, at, _ in SAMPLES)
        for minute in range(BASE + 60_000, BASE + 240_000, 60_000)
    ]
    assert result.resolution == 60_000
    assert result.series[0].values == expected


@pytest.mark.parametrize("aggregation", [each for each in REFERENCE if each is not Aggregation.QUANTILE])
@pytest.mark.parametrize(
    ("start", "end", "counted", "resolution"),
    [
        (BASE, BASE + 7_290_500, (BASE, BASE + 7_320_000), 3_600_000),
        (BASE + 90_500, BASE + 7_200_000, (BASE + 60_000, BASE + 7_200_000), 3_600_000),
        (BASE + 90_500, BASE + 7_290_500, (BASE + 60_000, BASE + 7_320_000), 3_600_000),
        (BASE + 90_500, BASE + 3_690_500, (BASE + 60_000, BASE + 3_720_000), 60_000),
        (BASE + 61_000, BASE + 62_000, (BASE + 60_000, BASE + 120_000), 60_000),
    ],
)
async def test_where_raw_data_has_gone_a_range_counts_in_whole_minutes_and_none_is_missing(
    store: ClickHouseMetricStore,
    aggregation: Aggregation,
    start: int,
    end: int,
    counted: tuple[int, int],
    resolution: int,
) -> None:
    late = BASE + (KEPT_DAYS + 1) * 86_400_000
    result = await MetricQuery(store).query(ask(aggregation, start, end, end - start), late, 10.0)
    expected = [value for host, at, value in SAMPLES if host == "a" and counted[0] <= at < counted[1]]
    assert result.resolution == resolution
    assert result.series[0].values == [pytest.approx(REFERENCE[aggregation](expected), rel=1e-12)]


async def test_a_metric_is_of_the_kinds_that_it_had_in_the_range(store: ClickHouseMetricStore) -> None:
    day = 86_400_000
    for kind, seen_at in (("GAUGE", BASE - 40 * day), ("HISTOGRAM", BASE)):
        await store.write([(header(0, seen_at), columns("renewed", [("a", seen_at, 1.0)], kind))], f"renewed-{kind}")
    # A living series is written once a day, and a point may be a day ahead.
    for start, kinds in (
        (BASE - 39 * day, {Kind.GAUGE, Kind.HISTOGRAM}),
        (BASE - 38 * day, {Kind.GAUGE, Kind.HISTOGRAM}),
        (BASE - 38 * day + 1, {Kind.HISTOGRAM}),
        (BASE + 2 * day, {Kind.HISTOGRAM}),
    ):
        query = ask(Aggregation.COUNT, start, start + day, 0, metric="renewed", group_by=())
        assert await store.kinds(query, None, 10.0) == kinds
    recent = ask(Aggregation.COUNT, BASE - day, BASE + day, 0, metric="renewed")
    assert (await MetricQuery(store).query(recent, NOW, 10.0)).series == []
    with pytest.raises(FailedPreconditionError, match="GAUGE, HISTOGRAM"):
        await MetricQuery(store).query(replace(recent, start=BASE - 40 * day), NOW, 10.0)


async def test_more_groups_than_asked_for_is_an_error(store: ClickHouseMetricStore) -> None:
    with pytest.raises(ResourceExhaustedError):
        await MetricQuery(store).query(ask(Aggregation.SUM, BASE, NOW, 60_000, max_series=2), NOW, 10.0)


@pytest.mark.parametrize(
    ("filter_text", "hosts"),
    [
        ("host = a", {"a"}),
        ("NOT host = a", {"bb", "ccc"}),
        ("host = b* OR host = ccc", {"bb", "ccc"}),
        ("rack:*", set()),
    ],
)
async def test_a_filter_selects_series(store: ClickHouseMetricStore, filter_text: str, hosts: set[str]) -> None:
    query = ask(Aggregation.COUNT, BASE, NOW, 3_600_000, filter=filter_text)
    assert {s.labels["host"] for s in (await MetricQuery(store).query(query, NOW, 10.0)).series} == hosts


async def test_pages_visit_every_series_once(store: ClickHouseMetricStore) -> None:
    found, after = [], -1
    while page := await store.series("default", "cpu", None, after, 1, 10.0):
        found += [series.labels["host"] for series in page]
        after = page[-1].series_id
    assert sorted(found) == ["a", "bb", "ccc"]


async def test_metrics_and_labels_are_listed(store: ClickHouseMetricStore) -> None:
    (cpu,) = [found for found in await store.metrics("default", None, "", 100, 10.0) if found.metric == "cpu"]
    assert (cpu.kinds, cpu.series_count) == ([Kind.GAUGE], 3)
    (label,) = await store.labels("default", "cpu", None, "", 100, 10.0)
    assert (label.key, label.values, label.value_count) == ("host", ["a", "bb", "ccc"], 3)


async def test_another_tenants_series_are_not_seen(store: ClickHouseMetricStore) -> None:
    assert await store.metrics("other", None, "", 100, 10.0) == []
    query = ask(Aggregation.COUNT, BASE, NOW, 3_600_000, tenant="other", group_by=())
    assert (await MetricQuery(store).query(query, NOW, 10.0)).series == []


async def test_ids_of_stored_requests_are_read_back_for_a_day(store: ClickHouseMetricStore) -> None:
    now = time.time_ns()
    fresh = Header("default", "test", now, 1, request_id="fresh")
    stale = Header("default", "test", now - 25 * 3_600_000_000_000, 1, request_id="stale")
    stream = Header("default", "test", now, 1, producer_id="producer", sequence=7)
    await store.write([(h, columns("ids", [("a", BASE, 1.0)])) for h in (fresh, stale, stream)], "ids")
    ids = RecentIds()
    await store.load_ids(ids)
    published: list[str] = []

    async def publish() -> Position:
        published.append("again")
        return Position(1)

    assert await ids.publish_once(fresh, publish) == (0, True)
    assert await ids.publish_once(stale, publish) == (1, False)
    assert ids.highest_sequence("default", "producer") == 7
    assert published == ["again"]
