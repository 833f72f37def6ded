"""The SQL of trace queries: text from here, every value of the user as a parameter."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.filter import Checked
from services.shared.filter.clickhouse import compile_clickhouse
from services.traces.model import LatencyQuery, TraceOrder, TraceSearch

Statement = tuple[str, dict[str, object]]

MINUTE_NS = 60_000_000_000

_MOMENT = "fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')"
_QUANTILES = "quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(q)"
_STATE = "quantilesDDState(0.01, 0.5, 0.95, 0.99)"
_OUTLINE = (
    "trace_id, span_id, parent_span_id, operation, service, toUnixTimestamp64Nano(start_time) AS start, "
    "duration_ns, kind, status_code"
)
_WHOLE = (
    f"{_OUTLINE}, status_message, tag_string, tag_int64, tag_double, tag_bool, tag_encoded, "
    "event_time, event_fields, link_trace_id, link_span_id, link_tags"
)
_ORDERS = {
    TraceOrder.NEWEST: ("started DESC", "started < {after:Int64}", "started = {after:Int64}"),
    TraceOrder.OLDEST: ("started", "started > {after:Int64}", "started = {after:Int64}"),
    TraceOrder.LONGEST: ("duration DESC", "duration < {after:Int64}", "duration = {after:Int64}"),
}


def trace(tenant: str, trace_id: str, limit: int) -> Statement:
    """The whole spans of a trace by start time, read from where in time `traces` knows them to be."""
    return (
        "WITH (SELECT (min(first), max(last)) FROM airis.traces "
        "WHERE tenant = {tenant:String} AND trace_id = {trace_id:String}) AS bounds\n"
        f"SELECT {_WHOLE} FROM airis.spans WHERE tenant = {{tenant:String}} AND trace_id = {{trace_id:String}} "
        "AND start_time >= bounds.1 AND start_time <= bounds.2 ORDER BY start_time, span_id LIMIT {limit:UInt32}",
        {"tenant": tenant, "trace_id": trace_id, "limit": limit},
    )


def outlines(tenant: str, trace_ids: Sequence[str], first: int, last: int) -> Statement:
    """The spans of traces without what only a reader of the whole needs. Starts in ns, both included."""
    return (
        f"SELECT {_OUTLINE} FROM airis.spans "
        "WHERE tenant = {tenant:String} AND trace_id IN {trace_ids:Array(String)} "
        f"AND start_time >= {_moment('first')} AND start_time <= {_moment('last')} ORDER BY start_time, span_id",
        {"tenant": tenant, "trace_ids": list(trace_ids), "first": first, "last": last},
    )


def search(search: TraceSearch, spans: Checked | None, begin: int) -> Statement:
    """Summaries of the traces that have a matching span which starts in the range.

    Args:
        search: The question.
        spans: What one span must match.
        begin: NEWEST only: traces and spans that start before this moment (ns) are left out; the start of the
            range leaves none out.
    """
    compiled = compile_clickhouse(spans, prefix="f")
    order, beyond, equal = _ORDERS[search.order]
    parameters: dict[str, object] = {
        "tenant": search.tenant,
        "begin": begin,
        "end": search.end_ns,
        "limit": search.limit,
        **compiled.parameters,
    }
    having = []
    if begin > search.start_ns:
        having.append("started >= {begin:Int64}")
    if search.after is not None:
        having.append(f"({beyond} OR ({equal} AND trace_id > {{after_id:String}}))")
        parameters |= {"after": search.after[0], "after_id": search.after[1]}
    sql = f"""SELECT trace_id, toUnixTimestamp64Nano(min(first)) AS started, max(finished_ns) - started AS duration,
       sum(t.span_count) AS spans, sum(t.error_count) AS errors,
       arraySort(groupUniqArrayArray(t.services)) AS names, argMinMerge(t.root) AS origin
FROM airis.traces AS t
WHERE tenant = {{tenant:String}} AND trace_id IN (
  SELECT trace_id FROM airis.spans
  WHERE tenant = {{tenant:String}} AND start_time >= {_moment("begin")} AND start_time < {_moment("end")}
    AND {compiled.sql}
)
GROUP BY trace_id
{f"HAVING {' AND '.join(having)}" if having else ""}
ORDER BY {order}, trace_id
LIMIT {{limit:UInt32}}"""
    return sql, parameters


def services(tenant: str, start: int, end: int, after: str, limit: int) -> Statement:
    """Rows of service, spans and errors, by name."""
    parameters: dict[str, object] = {"tenant": tenant, "after": after, "limit": limit}
    red = _red(parameters, start, end, "service > {after:String}")
    return (
        f"""SELECT service, sum(c) AS spans, sum(e) AS errors
FROM (
{red}
)
GROUP BY service ORDER BY service LIMIT {{limit:UInt32}}""",
        parameters,
    )


def operations(tenant: str, service: str, start: int, end: int, after: tuple[str, int], limit: int) -> Statement:
    """Rows of operation, kind, spans, errors and durations (three quantiles in ns), by operation and kind."""
    parameters: dict[str, object] = {
        "tenant": tenant,
        "service": service,
        "after": after[0],
        "after_kind": after[1],
        "limit": limit,
    }
    condition = (
        "service = {service:String} AND (operation > {after:String} "
        "OR (operation = {after:String} AND kind > {after_kind:Int64}))"
    )
    return (
        f"""SELECT operation, kind, sum(c) AS spans, sum(e) AS errors, {_QUANTILES} AS durations
FROM (
{_red(parameters, start, end, condition)}
)
GROUP BY operation, kind ORDER BY operation, kind LIMIT {{limit:UInt32}}""",
        parameters,
    )


def latency(query: LatencyQuery) -> Statement:
    """Rows of handles (whether of spans that handle calls), is_total, step (its start in seconds), spans, errors and
    durations, by step."""
    parameters: dict[str, object] = {
        "tenant": query.tenant,
        "service": query.service,
        "step": query.step_ns // 1_000_000_000,
    }
    condition = "service = {service:String}"
    if query.operation:
        condition += " AND operation = {operation:String}"
        parameters["operation"] = query.operation
    return (
        f"""SELECT handles, grouping(step) AS is_total, step, sum(c) AS spans, sum(e) AS errors,
       {_QUANTILES} AS durations
FROM (
  SELECT kind IN (2, 5) AS handles, intDiv(toInt64(toUnixTimestamp(minute)), {{step:Int64}}) * {{step:Int64}} AS step,
         c, e, q
  FROM (
{_red(parameters, query.start_ns, query.end_ns, condition)}
  )
)
GROUP BY GROUPING SETS ((handles, step), (handles))
ORDER BY is_total, step""",
        parameters,
    )


def edges(tenant: str, start: int, end: int, limit: int) -> Statement:
    """Rows of caller, callee, calls, errors and durations, of whole minutes."""
    return (
        """SELECT caller, callee, sum(call_count) AS calls, sum(error_count) AS errors,
       quantilesDDMerge(0.01, 0.5, 0.95, 0.99)(e.durations) AS quantiles
FROM airis.service_edges_1m AS e FINAL
WHERE tenant = {tenant:String} AND minute >= toDateTime({first:Int64}, 'UTC')
  AND minute < toDateTime({last:Int64}, 'UTC')
GROUP BY caller, callee ORDER BY caller, callee LIMIT {limit:UInt32}""",
        {
            "tenant": tenant,
            "first": start // MINUTE_NS * 60,
            "last": -(-end // MINUTE_NS) * 60,
            "limit": limit,
        },
    )


def newest_minute(until: int) -> Statement:
    """One row of newest (minutes since 1970) and minutes (0: there are none), over all tenants."""
    sql = """SELECT intDiv(toInt64(toUnixTimestamp(max(minute))), 60) AS newest, count() AS minutes
FROM airis.span_red_1m
WHERE minute <= toDateTime({until:Int64} * 60, 'UTC')"""
    return sql, {"until": until}


def refresh_edges(first_minute: int, last_minute: int, lookback_seconds: int) -> Statement:
    """Writes the calls of some minutes, of all tenants.

    A caller starts at most `lookback_seconds` before the called span, or, by another clock, a minute after it.
    """
    # Two spans of one id have the least name as theirs, so that a rerun decides the same.
    sql = f"""INSERT INTO airis.service_edges_1m
    (tenant, minute, caller, callee, call_count, error_count, durations)
SELECT called.tenant, called.minute, calling.service AS caller, called.service AS callee,
       count(), countIf(called.status_code = 2), {_STATE}(called.duration_ns)
FROM (
  SELECT tenant, toStartOfMinute(start_time) AS minute, trace_id, parent_span_id, toString(service) AS service,
         status_code, duration_ns
  FROM airis.spans
  WHERE start_time >= {_moment("first")} AND start_time < {_moment("last")}
    AND parent_span_id != ''
) AS called
INNER JOIN (
  SELECT tenant, trace_id, span_id, min(toString(service)) AS service
  FROM airis.spans
  WHERE start_time >= {_moment("since")} AND start_time < {_moment("until")}
  GROUP BY tenant, trace_id, span_id
) AS calling
ON called.tenant = calling.tenant AND called.trace_id = calling.trace_id AND called.parent_span_id = calling.span_id
WHERE calling.service != called.service
GROUP BY called.tenant, called.minute, caller, callee"""
    # In nanoseconds: with a DateTime in their place, granules of a merged part were left out (ClickHouse 26.9).
    first, last = first_minute * MINUTE_NS, (last_minute + 1) * MINUTE_NS
    return sql, {
        "first": first,
        "last": last,
        "since": first - lookback_seconds * 1_000_000_000,
        "until": last + MINUTE_NS,
    }


def _red(parameters: dict[str, object], start: int, end: int, condition: str) -> str:
    """Rows of service, operation, kind, minute, c, e and q: whole minutes from the rollup, the edges from spans."""
    first, last = -(-start // MINUTE_NS) * MINUTE_NS, end // MINUTE_NS * MINUTE_NS
    edges = [(start, first), (last, end)] if first < last else [(start, end)]
    parts: list[str] = []
    ranges: list[str] = []
    for begin, until in edges:
        if begin < until:
            name = f"edge{len(ranges)}"
            parameters |= {f"{name}_start": begin, f"{name}_end": until}
            ranges.append(f"start_time >= {_moment(f'{name}_start')} AND start_time < {_moment(f'{name}_end')}")
    if ranges:
        # Both in one read.
        cut = f"(({ranges[0]}) OR ({ranges[1]}))" if len(ranges) == 2 else ranges[0]
        parts.append(f"""  SELECT service, operation, kind, toStartOfMinute(start_time) AS minute, count() AS c,
         countIf(status_code = 2) AS e, {_STATE}(duration_ns) AS q
  FROM airis.spans
  WHERE tenant = {{tenant:String}} AND {condition}
    AND {cut}
  GROUP BY service, operation, kind, minute""")
    if first < last:
        parameters |= {"first": first // 1_000_000_000, "last": last // 1_000_000_000}
        parts.append(f"""  SELECT service, operation, kind, minute, count AS c, errors AS e, durations AS q
  FROM airis.span_red_1m
  WHERE tenant = {{tenant:String}} AND {condition}
    AND minute >= toDateTime({{first:Int64}}, 'UTC') AND minute < toDateTime({{last:Int64}}, 'UTC')""")
    return "\n  UNION ALL\n".join(parts)


def _moment(name: str) -> str:
    return _MOMENT.format(name=name)
