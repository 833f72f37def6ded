"""`airis logs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from airis.client.cli.invocation import Invocation, command, gather_pages, page_size
from airis.client.cli.times import format_moment
from rich.text import Text

if TYPE_CHECKING:
    from airis.logs.v1 import logs_pb2

app = typer.Typer(help="Search, follow and send logs.", no_args_is_help=True)

Filter = Annotated[str, typer.Argument(help='Which entries: level >= WARN AND service = "pay" "timed out".')]

_COLORS = {"DEBUG": "dim", "INFO": "green", "WARN": "yellow", "ERROR": "red", "FATAL": "bold red"}


@command(app, "search", has_range=True)
async def search(
    invocation: Invocation,
    filter: Filter = "",  # noqa: A002
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Begin with the oldest.")] = False,
) -> None:
    """Find entries by filter, full text and time; the newest first."""
    paged = invocation.client.logs.search(
        filter,
        start=invocation.range.start,
        end=invocation.range.end,
        order_by="timestamp asc" if oldest_first else "",
        page_size=page_size(limit),
    )
    answer = await gather_pages(paged, "entries", limit)
    if invocation.out.is_json:
        invocation.out.document(answer)
        return
    if not answer.entries:
        invocation.out.text("No entry matches in this range.")
    for index, entry in enumerate(answer.entries):
        marks = answer.highlights[index].highlights if index < len(answer.highlights) else ()
        invocation.out.text(entry_line(entry, marks))


@command(app, "tail")
async def tail(
    invocation: Invocation,
    filter: Filter = "",  # noqa: A002
    backlog: Annotated[int, typer.Option(help="Begin with this many older entries.", min=0, max=1000)] = 10,
    max_count: Annotated[int, typer.Option(help="End after this many entries; 0: never.", min=0)] = 0,
) -> None:
    """Print entries as they come, until Ctrl-C."""
    async for entry in invocation.client.logs.tail(filter, backlog=backlog, max_count=max_count):
        if invocation.out.is_json:
            invocation.out.line(entry)
        else:
            invocation.out.text(entry_line(entry))


@command(app, "send")
async def send(
    invocation: Invocation,
    message: Annotated[str, typer.Argument(help="The text; without it, each line of standard input is one.")] = "",
    level: Annotated[str, typer.Option(help="debug, info, warn, error or fatal.")] = "info",
    service: Annotated[str, typer.Option(help="The service that wrote it.")] = "",
    label: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--label", "-l", help="key=value; may be repeated."),
    ] = None,
    trace_id: Annotated[str, typer.Option(help="The trace it belongs to: 32 hex digits.")] = "",
    file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--file", "-f", help="A file with a text on each line; - is standard input."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Lines are LogEntry in JSON, not texts.")] = False,
) -> None:
    """Send one entry, or those of a file or of standard input."""
    from airis.client.cli import parsing, sending
    from airis.logs.v1 import logs_pb2

    level_number: Any = parsing.enum(logs_pb2.LogEntry.Level.DESCRIPTOR, level)
    labels = parsing.labels(label)

    def entry_of(text: str) -> logs_pb2.LogEntry:
        if json:
            return parsing.from_json(text, logs_pb2.LogEntry())
        entry = logs_pb2.LogEntry(message=text, level=level_number, service=service, labels=labels, trace_id=trace_id)
        # The time of receipt would give all lines of a batch the same one.
        entry.timestamp.GetCurrentTime()
        return entry

    if message and file is not None:
        raise typer.BadParameter("Give a message or --file, not both.")
    if message:
        sending.report_unary(invocation, await invocation.client.logs.ingest([entry_of(message)]), "entry")
        return
    if file is None and sys.stdin.isatty():
        raise typer.BadParameter("Give a message or --file, or pipe lines to standard input.")
    await sending.send_lines(invocation, invocation.client.logs, file or Path("-"), entry_of, "entry")


def entry_line(entry: logs_pb2.LogEntry, marks: Any = ()) -> Text:
    """`2026-11-21 08:30:00.123 ERROR pay: the message  host=a`, with what the filter's words matched marked."""
    from airis.client.cli.output import labels_text, visible
    from airis.logs.v1 import logs_pb2

    level = logs_pb2.LogEntry.Level.Name(entry.level)
    line = Text(format_moment(entry.timestamp.ToNanoseconds()), style="dim")
    line.append(f" {level:<5} ", style=_COLORS.get(level, ""))
    if entry.service:
        line.append(f"{visible(entry.service)}: ", style="cyan")
    # Rich leaves some control characters out, and the marks would be beside what they mark.
    message = Text(visible(entry.message), style="default")
    for mark in marks:
        if mark.field == "message":
            message.stylize("bold reverse", mark.start, mark.end)
    line.append_text(message)
    if entry.labels:
        line.append(f"  {visible(labels_text(dict(entry.labels)))}", style="dim")
    return line
