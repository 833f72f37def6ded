"""The SQL of metric queries: text from here, every value of the user as a parameter."""

from __future__ import annotations

from services.metrics.model import Aggregation, RangeQuery
from services.metrics.store.port import Plan
from services.shared.filter import Checked
from services.shared.filter.clickhouse import compile_clickhouse

Statement = tuple[str, dict[str, object]]

_FINAL = {
    Aggregation.SUM: "sum(s)",
    Aggregation.AVG: "sum(s) / sum(c)",
    Aggregation.MIN: "min(mn)",
    Aggregation.MAX: "max(mx)",
    Aggregation.COUNT: "toFloat64(sum(c))",
    Aggregation.LAST: "sum(l)",
}
_ROLLUPS = {60_000: "samples_1m", 3_600_000: "samples_1h"}
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
    parameters = _parameters(query)
    selected, join = _selected(query, series, parameters, always=False)
    parts: list[str] = []
    for begin, end in (
        ((query.start, plan.rollup_start), (plan.rollup_end, query.end))
        if plan.resolution
        else ((query.start, query.end),)
    ):
        if begin < end:
            parts.append(_raw_part(parameters, f"raw{len(parts)}", begin, end, join))
    if plan.resolution:
        parts.append(_rollup_part(parameters, plan, join))
    union = "\n  UNION ALL\n".join(parts)
    group = "g" if join else "[]::Array(String) AS g"
    sql = f"""{selected}SELECT {group}, t, {_FINAL[query.aggregation]} AS v
FROM (
  SELECT p.series_id AS series_id, p.t AS t, sum(p.s) AS s, sum(p.c) AS c, min(p.mn) AS mn, max(p.mx) AS mx,
         argMax(p.l, p.lt) AS l
  FROM (
{union}
  ) AS p
  GROUP BY series_id, t
) AS stepped
{"INNER JOIN selected USING series_id" if join else ""}
GROUP BY g, t
ORDER BY g, t"""
    return sql, parameters


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


def _where(begin: str, end: str, join: bool) -> str:
    chosen = " AND series_id IN (SELECT series_id FROM selected)" if join else ""
    return (
        "WHERE tenant = {tenant:String} AND metric = {metric:String} "
        f"AND timestamp >= fromUnixTimestamp64Milli({{{begin}:Int64}}) "
        f"AND timestamp < fromUnixTimestamp64Milli({{{end}:Int64}}){chosen}"
    )


def _raw_part(parameters: dict[str, object], name: str, begin: int, end: int, join: bool) -> str:
    parameters |= {f"{name}_start": begin, f"{name}_end": end}
    bucket = _bucket("toUnixTimestamp64Milli(timestamp)", int(str(parameters["step"])))
    return f"""  SELECT series_id, {bucket} AS t, sum(value) AS s, count() AS c,
         min(value) AS mn, max(value) AS mx, argMax(value, timestamp) AS l, max(timestamp) AS lt
  FROM airis.samples
  {_where(f"{name}_start", f"{name}_end", join)}
  GROUP BY series_id, t"""


def _rollup_part(parameters: dict[str, object], plan: Plan, join: bool) -> str:
    parameters |= {"rollup_start": plan.rollup_start, "rollup_end": plan.rollup_end}
    bucket = _bucket("toInt64(toUnixTimestamp(timestamp)) * 1000", int(str(parameters["step"])))
    return f"""  SELECT series_id, {bucket} AS t, sum(r.sum) AS s, sum(r.count) AS c,
         min(r.min) AS mn, max(r.max) AS mx, argMaxMerge(r.last) AS l,
         max(toDateTime64(timestamp, 3, 'UTC')) AS lt
  FROM airis.{_ROLLUPS[plan.resolution]} AS r
  {_where("rollup_start", "rollup_end", join)}
  GROUP BY series_id, t"""


def _quantile(query: RangeQuery, series: Checked | None) -> Statement:
    parameters = _parameters(query) | {"quantile": query.quantile}
    selected, join = _selected(query, series, parameters, always=False)
    group = "g" if join else "[]::Array(String) AS g"
    sql = f"""{selected}SELECT {group}, {_bucket("toUnixTimestamp64Milli(timestamp)", query.step)} AS t,
       quantileExactInclusive({{quantile:Float64}})(value) AS v
FROM airis.samples
{"INNER JOIN selected USING series_id" if join else ""}
{_where("start", "end", join)}
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
    sql = f"""{selected}SELECT g, {_bucket("at", query.step)} AS t, sum(increase) / ({seconds}) AS v
FROM (
  SELECT g, kind,
         arraySort(point -> point.1, groupArray((toUnixTimestamp64Milli(timestamp), value,
                                                 toUnixTimestamp64Milli(start_time)))) AS points,
         arrayMap(point -> point.1, points) AS times,
         arrayMap(point -> point.2, points) AS numbers,
         arrayMap(point -> point.3, points) AS starts,
         arrayPushFront(arrayPopBack(numbers), nan) AS previous,
         arrayMap((number, before, since) -> multiIf(
             kind IN {_DELTA}, number,
             isNaN(before), if(since >= {{start:Int64}}, number, 0),
             kind = 'COUNTER' AND number < before, number,
             number - before), numbers, previous, starts) AS increases
  FROM airis.samples INNER JOIN selected USING series_id
  {_where("before", "end", True)}
  GROUP BY series_id, g, kind
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
{_where("before", "end", True).replace("timestamp ", "d.timestamp ")}
ORDER BY series_id, d.timestamp"""
    return sql, parameters
