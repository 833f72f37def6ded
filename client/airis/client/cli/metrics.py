"""`airis metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from airis.client.cli.invocation import Invocation, command, gather_pages, page_size
from airis.client.cli.output import labels_text, number, sparkline
from airis.client.cli.times import format_length, format_moment, parse_length, parse_moment

app = typer.Typer(help="Query, list and send metrics.", no_args_is_help=True)

Filter = Annotated[str, typer.Option(help='Which series: host = "a" AND NOT path : "/health".')]


@command(app, "query", has_range=True)
async def query(
    invocation: Invocation,
    metric: Annotated[str, typer.Argument(help="The metric's name.")],
    filter: Filter = "",  # noqa: A002
    aggregation: Annotated[
        str, typer.Option("--aggregation", "-a", help="sum, avg, min, max, count, last, rate, increase or quantile.")
    ] = "avg",
    quantile: Annotated[float, typer.Option(help="For the quantile aggregation, 0 to 1.", min=0, max=1)] = 0.0,
    group_by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--group-by", "-g", help="A label that keeps groups apart; may be repeated."),
    ] = None,
    step: Annotated[str, typer.Option(help="The distance of points, as 1m; chosen if absent.")] = "",
) -> None:
    """Show a metric over time."""
    from airis.client.cli import parsing
    from airis.common.v1.aggregation_pb2 import Aggregation

    function: Any = parsing.enum(Aggregation.Function.DESCRIPTOR, aggregation)
    answer = await invocation.client.metrics.query(
        metric,
        filter=filter,
        start=invocation.range.start,
        end=invocation.range.end,
        step=_step(step),
        aggregation=function,
        quantile=quantile,
        group_by=group_by or (),
    )
    if invocation.out.is_json:
        invocation.out.document(answer)
    else:
        print_query(invocation, answer, f"{aggregation.upper()} of {metric}")


def print_query(invocation: Invocation, answer: Any, title: str) -> None:
    """A line for each series, with a sparkline over the whole range of the answer."""
    step = answer.step.ToNanoseconds()
    moments = [point.timestamp.ToNanoseconds() for series in answer.series for point in series.points]
    if not moments:
        invocation.out.text("There are no points in this range.")
        return
    first, last = min(moments), max(moments)
    invocation.out.text(
        f"{title}, steps of {format_length(step)}, {format_moment(first, 0)} to {format_moment(last + step, 0)} UTC"
    )
    rows = []
    for series in answer.series:
        values = [point.value for point in series.points]
        slots = [float("nan")] * ((last - first) // step + 1)
        for point in series.points:
            slots[(point.timestamp.ToNanoseconds() - first) // step] = point.value
        rows.append(
            (
                labels_text(dict(series.labels)) or "all",
                sparkline(slots),
                number(values[-1]),
                number(min(values)),
                number(max(values)),
                str(len(values)),
            )
        )
    invocation.out.table(("series", "over time", ">last", ">min", ">max", ">points"), rows, "")


@command(app, "list")
async def list_metrics(
    invocation: Invocation,
    filter: Annotated[str, typer.Option(help='Which metrics: metric : "http" AND kind = COUNTER.')] = "",  # noqa: A002
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 100,
) -> None:
    """List the metrics that have data."""
    from airis.metrics.v1 import metrics_pb2

    paged = invocation.client.metrics.list(filter=filter, page_size=page_size(limit))
    answer = await gather_pages(paged, "metrics", limit)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    kinds = metrics_pb2.Metric.Kind
    rows = [
        (
            metric.metric,
            ", ".join(kinds.Name(kind) for kind in metric.kinds),
            ", ".join(unit for unit in metric.units if unit),
            f"{metric.series_count:,}",
        )
        for metric in answer.metrics
    ]
    invocation.out.table(("metric", "kind", "unit", ">series"), rows, "There are no metrics.")


@command(app, "send")
async def send(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(help="The metric's name.")] = "",
    value: Annotated[Optional[float], typer.Argument(help="The value.")] = None,  # noqa: UP045
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--label", "-l", help="key=value; may be repeated."),
    ] = None,
    kind: Annotated[str, typer.Option(help="gauge, counter, delta_counter, up_down_counter, …")] = "gauge",
    unit: Annotated[str, typer.Option(help="In UCUM: ms, By, 1.")] = "",
    time: Annotated[str, typer.Option(help="When it was measured (RFC 3339); now if absent.")] = "",
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--file", "-f", help="A file with a Metric in JSON on each line; - is standard input."),
    ] = None,
) -> None:
    """Send one point, or those of a file."""
    from airis.client.cli import parsing, sending
    from airis.metrics.v1 import metrics_pb2

    if file is not None:
        if name:
            raise typer.BadParameter("Give a point or --file, not both.")
        await sending.send_lines(
            invocation,
            invocation.client.metrics,
            file,
            lambda text: parsing.from_json(text, metrics_pb2.Metric()),
            "point",
        )
        return
    if not name or value is None:
        raise typer.BadParameter("Give NAME and VALUE, or --file.")
    kind_number: Any = parsing.enum(metrics_pb2.Metric.Kind.DESCRIPTOR, kind)
    point = metrics_pb2.Metric(name=name, value=value, kind=kind_number, unit=unit, labels=parsing.labels(label))
    if time:
        point.timestamp.FromNanoseconds(_time(time))
    sending.report_unary(invocation, await invocation.client.metrics.ingest([point]), "point")


def _step(text: str) -> float | None:
    try:
        return parse_length(text) / 1e9 if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _time(text: str) -> int:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
