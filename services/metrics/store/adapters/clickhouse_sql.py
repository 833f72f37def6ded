"""The SQL of metric queries: text from here, every value of the user as a parameter."""

from __future__ import annotations

from collections.abc import Iterator

from services.metrics.model import Aggregation, RangeQuery
from services.metrics.store.port import HOUR_MS, MINUTE_MS, Plan
from services.shared.filter import Checked
from services.shared.filter.clickhouse import compile_clickhouse

Statement = tuple[str, dict[str, object]]

# Of a sample, of a row of a rollup, and of all that are in a group.
_SUMMED = {
    Aggregation.SUM: ("value AS x", "r.sum AS x", "sum(x)"),
    Aggregation.AVG: ("value AS x, 1 AS n", "r.sum AS x, r.count AS n", "sum(x) / sum(n)"),
    Aggregation.MIN: ("value AS x", "r.min AS x", "min(x)"),
    Aggregation.MAX: ("value AS x", "r.max AS x", "max(x)"),
    Aggregation.COUNT: ("1 AS n", "r.count AS n", "toFloat64(sum(n))"),
}
_ROLLUPS = {MINUTE_MS: "samples_1m", HOUR_MS: "samples_1h"}
_SAMPLE_MS = "toUnixTimestamp64Milli(timestamp)"
_ROLLUP_MS = "toInt64(toUnixTimestamp(timestamp)) * 1000"
_DELTA = "('DELTA_COUNTER', 'DELTA_UP_DOWN_COUNTER')"

MAX_LOOKBACK_MS = 3_600_000


def lookback(step: int) -> int:
    """How far before a range its first increase may begin: five minutes, or a step, at most an hour."""
    return min(max(300_000, step), MAX_LOOKBACK_MS)


def aggregate(query: RangeQuery, plan: Plan, series: Checked | None) -> Statement:
    """Rows of g (Array(String), the group's values), t (Int64, ms) and v (Float64), ordered by g and t."""
    match query.aggregation:
        case Aggregation.RATE | Aggregation.INCREASE:
            return _increase(query, series)
        case Aggregation.QUANTILE:
            return _quantile(query, series)
        case Aggregation.LAST:
            return _last(query, plan, series)
    parameters = _parameters(query)
    selected, join = _selected(query, series, parameters, always=False)
    sample, rolled, final = _SUMMED[query.aggregation]
    parts = []
    if ranges := _raw_ranges(query, plan, parameters):
        parts.append(f"""  SELECT series_id, {_bucket(_SAMPLE_MS, query.step)} AS t, {sample}
  FROM airis.samples
  {_where(ranges, series)}""")
    for table, times in _rollup_ranges(plan, parameters):
        parts.append(f"""  SELECT series_id, {_bucket(_ROLLUP_MS, query.step)} AS t, {rolled}
  FROM airis.{table} AS r
  {_where(times, series)}""")
    union = "\n  UNION ALL\n".join(parts)
    sql = f"""{selected}SELECT {_group(join)}, t, {final} AS v
FROM (
{union}
) AS p
{_joined(join)}
GROUP BY g, t
ORDER BY g, t"""
    return sql, parameters


def _last(query: RangeQuery, plan: Plan, series: Checked | None) -> Statement:
    """The sum of each series' newest value: which that is, is known when all rows of a series are together."""
    parameters = _parameters(query)
    selected, join = _selected(query, series, parameters, always=False)
    parts = []
    if ranges := _raw_ranges(query, plan, parameters):
        parts.append(f"""  SELECT series_id, {_bucket(_SAMPLE_MS, query.step)} AS t,
         argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  {_where(ranges, series)}
  GROUP BY series_id, t""")
    for table, times in _rollup_ranges(plan, parameters):
        parts.append(f"""  SELECT series_id, {_bucket(_ROLLUP_MS, query.step)} AS t,
         argMaxMerge(r.last) AS l, max(toDateTime64(timestamp, 3, 'UTC')) AS lt
  FROM airis.{table} AS r
  {_where(times, series)}
  GROUP BY series_id, t""")
    union = "\n  UNION ALL\n".join(parts)
    sql = f"""{selected}SELECT {_group(join)}, t, sum(l) AS v
FROM (
  SELECT p.series_id AS series_id, p.t AS t, argMax(p.l, p.lt) AS l
  FROM (
{union}
  ) AS p
  GROUP BY series_id, t
) AS stepped
{_joined(join)}
GROUP BY g, t
ORDER BY g, t"""
    return sql, parameters


def _group(join: bool) -> str:
    return "g" if join else "[]::Array(String) AS g"


def _joined(join: bool) -> str:
    return "INNER JOIN selected USING series_id" if join else ""


def _parameters(query: RangeQuery) -> dict[str, object]:
    return {
        "tenant": query.tenant,
        "metric": query.metric,
        "start": query.start,
        "end": query.end,
        "step": query.step,
        "group_by": list(query.group_by),
    }


def _selected(
    query: RangeQuery, series: Checked | None, parameters: dict[str, object], *, always: bool
) -> tuple[str, bool]:
    if series is None and not query.group_by and not always:
        return "", False
    compiled = compile_clickhouse(series, prefix="f")
    parameters.update(compiled.parameters)
    return (
        f"""WITH selected AS (
  SELECT series_id, kind, arrayMap(key -> labels[key], {{group_by:Array(String)}}) AS g
  FROM airis.series
  WHERE tenant = {{tenant:String}} AND metric = {{metric:String}} AND {compiled.sql}
  LIMIT 1 BY series_id
)
""",
        True,
    )


def _bucket(milliseconds: str, step: int) -> str:
    return "{start:Int64}" if step == 0 else f"intDiv({milliseconds}, {{step:Int64}}) * {{step:Int64}}"


def _where(ranges: str, series: Checked | None) -> str:
    """The rows of some times. Unless a filter selects, all series of the metric are meant, and the join finds them."""
    chosen = " AND series_id IN (SELECT series_id FROM selected)" if series is not None else ""
    return f"WHERE tenant = {{tenant:String}} AND metric = {{metric:String}} AND {ranges}{chosen}"


def _range(begin: str, end: str) -> str:
    return (
        f"timestamp >= fromUnixTimestamp64Milli({{{begin}:Int64}}) "
        f"AND timestamp < fromUnixTimestamp64Milli({{{end}:Int64}})"
    )


def _raw_ranges(query: RangeQuery, plan: Plan, parameters: dict[str, object]) -> str:
    """The times that samples answer for: what is left of and right of the rollup's, in one read; empty if none."""
    edges = ((query.start, plan.start), (plan.end, query.end))
    found: list[str] = []
    for begin, end in edges if plan.resolution else ((query.start, query.end),):
        if begin < end:
            name = f"raw{len(found)}"
            parameters |= {f"{name}_start": begin, f"{name}_end": end}
            found.append(_range(f"{name}_start", f"{name}_end"))
    return f"(({found[0]}) OR ({found[1]}))" if len(found) == 2 else "".join(found)


def _rollup_ranges(plan: Plan, parameters: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Each rollup's table, with the times that it answers for."""
    ranges = [(plan.resolution, plan.rollup_start, plan.rollup_end)] if plan.resolution else []
    for at, (width, begin, end) in enumerate([*ranges, *((MINUTE_MS, *each) for each in plan.minutes)]):
        parameters |= {f"rollup{at}_start": begin, f"rollup{at}_end": end}
        yield _ROLLUPS[width], _range(f"rollup{at}_start", f"rollup{at}_end")


def _quantile(query: RangeQuery, series: Checked | None) -> Statement:
    parameters = _parameters(query) | {"quantile": query.quantile}
    selected, join = _selected(query, series, parameters, always=False)
    sql = f"""{selected}SELECT {_group(join)}, {_bucket(_SAMPLE_MS, query.step)} AS t,
       quantileExactInclusive({{quantile:Float64}})(value) AS v
FROM airis.samples
{_joined(join)}
{_where(_range("start", "end"), series)}
GROUP BY g, t
ORDER BY g, t"""
    return sql, parameters


def _increase(query: RangeQuery, series: Checked | None) -> Statement:
    parameters = _parameters(query) | {"before": query.start - lookback(query.step)}
    selected, _ = _selected(query, series, parameters, always=True)
    seconds = "1"
    if query.aggregation is Aggregation.RATE:
        # A step that the range cuts short lasts only as long as the range is in it.
        seconds = (
            "({end:Int64} - {start:Int64}) / 1000"
            if query.step == 0
            else "(least(t + {step:Int64}, {end:Int64}) - greatest(t, {start:Int64})) / 1000"
        )
    # Arrays of plain numbers: of tuples they take ClickHouse half as long again.
    sql = f"""{selected}SELECT g, {_bucket("at", query.step)} AS t, sum(increase) / ({seconds}) AS v
FROM (
  SELECT g, times,
         arrayMap((number, before) -> multiIf(
             kind IN {_DELTA}, number,
             isNaN(before), if(since >= {{start:Int64}}, number, 0),
             kind = 'COUNTER' AND number < before, number,
             number - before), numbers, arrayPushFront(arrayPopBack(numbers), nan)) AS increases
  FROM (
    SELECT series_id, groupArray({_SAMPLE_MS}) AS found_times, groupArray(value) AS found_numbers,
           arraySort(found_times) AS times, arraySort((number, at) -> at, found_numbers, found_times) AS numbers,
           argMin(toUnixTimestamp64Milli(start_time), timestamp) AS since
    FROM airis.samples
    {_where(_range("before", "end"), series)}
    GROUP BY series_id
  ) AS p
  INNER JOIN selected USING series_id
)
ARRAY JOIN times AS at, increases AS increase
WHERE at >= {{start:Int64}}
GROUP BY g, t
ORDER BY g, t"""
    return sql, parameters


def distributions(query: RangeQuery, series: Checked | None, lookback_ms: int) -> Statement:
    """Rows of the port's `distributions`."""
    parameters = _parameters(query) | {"before": query.start - lookback_ms}
    selected, _ = _selected(query, series, parameters, always=True)
    sql = f"""{selected}SELECT g AS group, kind, series_id, toUnixTimestamp64Milli(timestamp) AS timestamp,
       toUnixTimestamp64Milli(start_time) AS start_time, count, sum, min, max, bounds, bucket_counts, scale,
       zero_count, zero_threshold, positive_offset, positive_counts, negative_offset, negative_counts,
       quantiles, quantile_values
FROM airis.distributions AS d INNER JOIN selected USING series_id
{_where(_range("before", "end"), series).replace("timestamp ", "d.timestamp ")}
ORDER BY series_id, d.timestamp"""
    return sql, parameters
