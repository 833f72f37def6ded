"""What people see, fixed: change the files under `cli/` only when the change is meant.

Set AIRIS_UPDATE_GOLDEN=1 to write them anew.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from airis.alerts.v1 import alerts_pb2
from airis.client.cli import logs, metrics, rules, traces
from airis.client.cli.invocation import Invocation
from airis.client.cli.output import Format, Output
from airis.client.cli.times import TimeRange
from airis.client.client import AirisClient
from airis.common.v1.aggregation_pb2 import Aggregation
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from rich.console import Console

FOLDER = Path(__file__).parent / "cli"
START = 1_795_249_800_000_000_000  # 2026-11-21T08:30:00Z
MILLISECOND = 1_000_000


def span(number: int, parent: int, name: str, begin: int, end: int | None, *, failed: bool = False) -> traces_pb2.Span:
    service, _, operation = name.partition(" ")
    result = traces_pb2.Span(
        trace_id="a" * 32,
        span_id=f"{number:016x}",
        parent_span_id=f"{parent:016x}" if parent else "",
        service_name=service,
        operation_name=operation,
    )
    result.start_time.FromNanoseconds(START + begin * MILLISECOND)
    if end is not None:
        result.end_time.FromNanoseconds(START + end * MILLISECOND)
    if failed:
        result.status.code = traces_pb2.Span.Status.ERROR
    return result


def metrics_query(invocation: Invocation) -> None:
    answer = metrics_pb2.QueryMetricsResponse()
    answer.step.FromSeconds(60)
    for host, values in (("a", [1, 2, 4, 8, 4, 2, 1]), ("b", [0.5, None, None, 3, 3, None, 2.25])):
        series = answer.series.add(labels={"host": host, "region": "서울"})
        for minute, value in enumerate(values):
            if value is not None:
                point = series.points.add(value=value)
                point.timestamp.FromNanoseconds(START + minute * 60 * 10**9)
    metrics.print_query(invocation, answer, "AVG of cpu")


def traces_show(invocation: Invocation) -> None:
    spans = [
        span(1, 0, "web GET /", 0, 100),
        span(3, 2, "pay charge", 20, 55, failed=True),
        span(2, 1, "web call pay", 10, 60),
        span(4, 1, "web render with a name that is far longer than what fits into one line", 60, 95),
        span(5, 1, "web hanging", 98, None),
        span(6, 99, "lost no parent", 40, 41),
        span(7, 8, "circle one", 1, 2),
        span(8, 7, "circle two", 3, 4),
    ]
    traces.print_waterfall(invocation.out, traces_pb2.Trace(trace_id="a" * 32, spans=spans))


def traces_critical_path(invocation: Invocation) -> None:
    path = traces_pb2.CriticalPath(trace_id="a" * 32)
    path.duration.FromMilliseconds(100)
    for name, begin, length in (("web GET /", 0, 10), ("pay charge", 10, 65), ("web GET /", 75, 25)):
        service, _, operation = name.partition(" ")
        segment = path.segments.add(span_id="1" * 16, service_name=service, operation_name=operation)
        segment.start_time.FromNanoseconds(START + begin * MILLISECOND)
        segment.duration.FromMilliseconds(length)
    path.warnings.add(kind=traces_pb2.CriticalPath.Warning.CLOCK_SKEW, span_id="2" * 16)
    traces.print_critical_path(invocation.out, path)


def logs_search(invocation: Invocation) -> None:
    entry = logs_pb2.LogEntry(
        level=logs_pb2.LogEntry.ERROR, service="pay", message="결제 timed out [not markup]", labels={"host": "a"}
    )
    entry.timestamp.FromNanoseconds(START + 123_456_789)
    marks = [logs_pb2.Highlight(field="message", start=3, end=8)]
    invocation.out.text(logs.entry_line(entry, marks))
    entry.ClearField("service")
    entry.ClearField("labels")
    entry.level = logs_pb2.LogEntry.WARN
    invocation.out.text(logs.entry_line(entry))


def rules_conditions(invocation: Invocation) -> None:
    rule = alerts_pb2.AlertRule(match=alerts_pb2.AlertRule.ANY)
    condition = rule.conditions.add(metric="cpu", filter='host = "a"', threshold=0.9)
    condition.duration.FromSeconds(120)
    rule.conditions.add(log_query="level >= ERROR", aggregation=Aggregation.COUNT, operator=5, threshold=10)
    invocation.out.text(rules.condition_text(rule))


CASES: list[Callable[[Invocation], None]] = [
    metrics_query,
    traces_show,
    traces_critical_path,
    logs_search,
    rules_conditions,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("looks", ["plain", "terminal"])
async def test_output_is_as_it_was(case: Callable[[Invocation], None], looks: str) -> None:
    is_terminal = looks == "terminal"
    console = Console(
        file=io.StringIO(),
        width=120 if is_terminal else 200,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal else None,
        highlight=False,
        legacy_windows=False,
    )
    async with AirisClient() as client:
        case(Invocation(client, Output(Format.TABLE, console), TimeRange(None, None)))
    shown = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
    path = FOLDER / f"{case.__name__}.{looks}.txt"
    if os.environ.get("AIRIS_UPDATE_GOLDEN"):
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{case.__name__}.{looks}.txt" for case in CASES for looks in ("plain", "terminal")}
    assert {path.name for path in FOLDER.iterdir()} == expected
