"""`airis traces`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from airis.client.cli.invocation import Invocation, command, gather_pages, page_size
from airis.client.cli.output import Output, bar, visible
from airis.client.cli.times import format_length, format_moment
from rich.text import Text

if TYPE_CHECKING:
    from airis.traces.v1 import traces_pb2

app = typer.Typer(help="Find traces and see where their time goes.", no_args_is_help=True)

TraceId = Annotated[str, typer.Argument(metavar="TRACE_ID", help="The trace: 32 hex digits.")]

_LONGEST_BAR = 50
_LONGEST_NAME = 60
# What the other columns of a waterfall and the space between them take.
_OTHER_COLUMNS = 44


@command(app, "list", has_range=True)
async def list_traces(
    invocation: Invocation,
    filter: Annotated[  # noqa: A002
        str, typer.Argument(help='What one span must match: service = "pay" AND duration > "100ms".')
    ] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 20,
    longest_first: Annotated[bool, typer.Option("--longest-first", help="Begin with the longest.")] = False,
) -> None:
    """List traces; the newest first."""
    paged = invocation.client.traces.search(
        filter,
        start=invocation.range.start,
        end=invocation.range.end,
        order_by="duration desc" if longest_first else "",
        page_size=page_size(limit),
    )
    answer = await gather_pages(paged, "traces", limit)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    rows = [
        (
            format_moment(trace.start_time.ToNanoseconds()),
            trace.trace_id,
            f"{trace.root_service_name}: {trace.root_operation_name}",
            format_length(trace.duration.ToNanoseconds()),
            str(trace.span_count),
            Text(str(trace.error_count), style="red" if trace.error_count else ""),
            ", ".join(trace.services),
        )
        for trace in answer.traces
    ]
    headers = ("start (UTC)", "=trace", "root", ">duration", ">spans", ">errors", "services")
    invocation.out.table(headers, rows, "No trace matches in this range.")


@command(app, "show")
async def show(invocation: Invocation, trace_id: TraceId) -> None:
    """Show a trace's spans as a waterfall."""
    trace = await invocation.client.traces.get(trace_id)
    if invocation.out.is_json:
        invocation.out.document(trace)
    else:
        print_waterfall(invocation.out, trace)


def print_waterfall(out: Output, trace: traces_pb2.Trace) -> None:
    """A line for each span, below its parent, with a bar where it lies in the trace."""
    from airis.traces.v1 import traces_pb2

    starts = [span.start_time.ToNanoseconds() for span in trace.spans]
    first = min(starts, default=0)
    last = max((_end(span) for span in trace.spans), default=0)
    total = max(last - first, 1)
    out.text(f"{trace.trace_id}  {format_moment(first)} UTC  {format_length(last - first)}  {len(trace.spans)} spans")
    name_width, bar_width = _widths(out)
    rows = []
    for depth, span in in_order(list(trace.spans)):
        start = span.start_time.ToNanoseconds()
        is_error = span.status.code == traces_pb2.Span.Status.ERROR
        text = visible(f"{span.service_name}: {span.operation_name}")
        name = Text("  " * depth + text, style="red" if is_error else "")
        name.truncate(name_width, overflow="ellipsis")
        length = format_length(_end(span) - start) if span.HasField("end_time") else "unfinished"
        drawn = bar((start - first) / total, (_end(span) - start) / total, bar_width)
        rows.append(
            (
                name,
                f"+{format_length(start - first)}",
                length,
                Text(drawn, style="red" if is_error else "cyan"),
                Text("ERROR", style="red") if is_error else "",
            )
        )
    out.table(("=span", ">start", ">duration", "=waterfall", "status"), rows, "The trace has no spans.")


def _widths(out: Output) -> tuple[int, int]:
    """How wide names and bars may be, so that a line of the waterfall stays one line."""
    room = max(out.console.width - _OTHER_COLUMNS, 30)
    bar_width = min(room // 2, _LONGEST_BAR)
    return min(room - bar_width, _LONGEST_NAME), bar_width


def in_order(spans: list[traces_pb2.Span]) -> list[tuple[int, traces_pb2.Span]]:
    """Spans with their depth, each below its parent, siblings by start; spans in circles come last, at the top."""
    children: dict[str, list[traces_pb2.Span]] = {}
    ids = {span.span_id for span in spans}
    by_start = sorted(spans, key=lambda span: (span.start_time.ToNanoseconds(), span.span_id))
    for span in by_start:
        parent = span.parent_span_id if span.parent_span_id in ids else ""
        children.setdefault(parent, []).append(span)
    result: list[tuple[int, traces_pb2.Span]] = []
    shown: set[int] = set()
    for top in [*children.get("", []), *by_start]:
        stack = [(0, top)]
        while stack:
            depth, span = stack.pop()
            if id(span) in shown:
                continue
            shown.add(id(span))
            result.append((depth, span))
            stack += [(depth + 1, child) for child in reversed(children.get(span.span_id, []))]
    return result


@command(app, "map", has_range=True)
async def service_map(invocation: Invocation) -> None:
    """Show which services call which; how often, with what errors, how long."""
    answer = await invocation.client.traces.service_map(start=invocation.range.start, end=invocation.range.end)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    rows = [
        (
            edge.caller,
            "→",
            edge.callee,
            f"{edge.call_count:,}",
            _ratio(edge.error_count, edge.call_count),
            format_length(edge.durations.p50.ToNanoseconds()),
            format_length(edge.durations.p95.ToNanoseconds()),
            format_length(edge.durations.p99.ToNanoseconds()),
        )
        for edge in answer.edges
    ]
    headers = ("caller", "", "callee", ">calls", ">errors", ">p50", ">p95", ">p99")
    invocation.out.table(headers, rows, "No service calls another in this range.")
    called = {name for edge in answer.edges for name in (edge.caller, edge.callee)}
    alone = [service.service for service in answer.services if service.service not in called]
    if alone:
        invocation.out.text(f"Without calls: {', '.join(alone)}.")


@command(app, "critical-path")
async def critical_path(invocation: Invocation, trace_id: TraceId) -> None:
    """Show the chain of spans that determines a trace's duration."""
    answer = await invocation.client.traces.critical_path(trace_id)
    if invocation.out.is_json:
        invocation.out.document(answer)
    else:
        print_critical_path(invocation.out, answer)


def print_critical_path(out: Output, path: traces_pb2.CriticalPath) -> None:
    """A line for each stretch of the path, with a bar where it lies and its share."""
    from airis.traces.v1 import traces_pb2

    total = max(path.duration.ToNanoseconds(), 1)
    first = min((segment.start_time.ToNanoseconds() for segment in path.segments), default=0)
    out.text(f"{path.trace_id}  {format_length(path.duration.ToNanoseconds())}")
    name_width, bar_width = _widths(out)
    rows = []
    for segment in path.segments:
        start, length = segment.start_time.ToNanoseconds() - first, segment.duration.ToNanoseconds()
        name = Text(visible(f"{segment.service_name}: {segment.operation_name}"))
        name.truncate(name_width, overflow="ellipsis")
        rows.append(
            (
                name,
                f"+{format_length(start)}",
                format_length(length),
                f"{100 * length / total:.1f} %",
                Text(bar(start / total, length / total, bar_width), style="magenta"),
            )
        )
    out.table(("=span", ">start", ">self time", ">share", "=critical path"), rows, "The path is empty.")
    for warning in path.warnings:
        kind = traces_pb2.CriticalPath.Warning.Kind.Name(warning.kind).replace("_", " ").lower()
        out.text(Text(f"Less certain: span {warning.span_id}, {kind}.", style="yellow"))


def _end(span: Any) -> int:
    return int((span.end_time if span.HasField("end_time") else span.start_time).ToNanoseconds())


def _ratio(part: int, whole: int) -> Text:
    return Text(f"{100 * part / whole if whole else 0.0:.1f} %", style="red" if part else "")
