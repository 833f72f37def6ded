"""Sending many items from a file or standard input, with batching and a progress bar."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from airis.client.cli.invocation import CommandError, Invocation, fail
from airis.client.cli.output import count, explain, stderr_console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from airis.client.dialect import BatchRejection
    from airis.client.signals.ingest import Ingesting

ItemT = TypeVar("ItemT")

_LINES_AT_ONCE = 500
_LONGEST_LINE = 16 * 1024 * 1024
_TOLD_REJECTIONS = 5
# A service that is restarted meanwhile is waited for; one that is not there at all is not.
_CONNECT_SECONDS = 5.0
_GIVE_UP_SECONDS = 60.0
_DASH = Path("-")


async def send_lines(
    invocation: Invocation, signal: Ingesting[Any, Any], path: Path, parse: Callable[[str], Any], noun: str
) -> None:
    """Sends one item a line, through a session, and prints what became of them.

    Args:
        invocation: The run of the command.
        signal: Where to.
        path: The file; "-" is standard input.
        parse: Makes an item of a line; raises `ValueError`.
        noun: What an item is called: "point".

    Raises:
        CommandError: A line is no item; those before it are sent.
        AirisError: The session failed.
    """
    session = signal.session(give_up_after=_GIVE_UP_SECONDS)
    try:
        await asyncio.wait_for(session.start(), _CONNECT_SECONDS)
    except TimeoutError:
        await session.abort()
        raise CommandError("AIRIS cannot be reached; does it run there? `airis up` starts it.") from None
    source = sys.stdin.buffer if path == _DASH else path.open("rb")
    try:
        with _progress(source, noun) as (progress, task):
            async with signal.batcher(session) as batcher:
                line_number = 0
                async for lines in _read(source):
                    for line in lines:
                        line_number += 1
                        text = line.decode("utf-8", "replace").strip()
                        if text:
                            await batcher.add(_parse(parse, text, path, line_number))
                    progress.advance(task, sum(map(len, lines)))
    finally:
        if source is not sys.stdin.buffer:
            source.close()
    report(invocation, signal, session.stored_items, session.rejected_items, session.rejections, noun)


def report(
    invocation: Invocation,
    signal: Ingesting[Any, Any],
    stored: int,
    refused: int,
    rejections: Sequence[BatchRejection],
    noun: str,
) -> None:
    """Prints what became of items; ends the command with 1 if any was refused."""
    if invocation.out.is_json:
        invocation.out.document(_response(signal, stored, rejections))
    elif stored or not refused:
        invocation.out.text(f"Stored {count(stored, noun)}.")
    if refused:
        reasons = [
            f"{noun.capitalize()} {rejection.first_item + item.index + 1}: {explain(item.error)}"
            for rejection in rejections
            for item in rejection.items
        ] or [explain(rejection.error) for rejection in rejections if rejection.error]
        fail(f"{count(refused, noun)} refused. " + " ".join(reasons[:_TOLD_REJECTIONS]))


class _progress:  # noqa: N801 (used as a context manager only)
    def __init__(self, source: BinaryIO, noun: str) -> None:
        console = stderr_console()
        status = os.fstat(source.fileno())
        total = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._progress = Progress(
            TextColumn(f"Sending {count(2, noun)[2:]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> tuple[Progress, TaskID]:
        self._progress.start()
        return self._progress, self._task

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _response(signal: Ingesting[Any, Any], stored: int, rejections: Sequence[BatchRejection]) -> Any:
    response = signal.response()
    response.accepted_count = stored
    for rejection in rejections:
        refused = [(item.index, item.error) for item in rejection.items]
        if rejection.error is not None:
            refused.append((0, rejection.error))
        for index, error in refused:
            added = response.rejections.add(index=rejection.first_item + index)
            added.status.code, added.status.message = error.code.value[0], error.message
    return response


async def _read(source: BinaryIO) -> AsyncIterator[list[bytes]]:
    mode = os.fstat(source.fileno()).st_mode
    at_once = _LINES_AT_ONCE if stat.S_ISREG(mode) else 1
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        while lines := await asyncio.to_thread(lambda: list(islice(source, at_once))):
            yield lines
        return
    # A pipe may be silent for long: batches go out by age meanwhile, and Ctrl-C must not wait for the next line.
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), source
    )
    try:
        while line := await reader.readline():
            yield [line]
    except ValueError as error:
        raise CommandError(f"A line is longer than {_LONGEST_LINE} bytes.") from error
    finally:
        transport.close()


def _parse(parse: Callable[[str], ItemT], text: str, path: Path, line_number: int) -> ItemT:
    try:
        return parse(text)
    except ValueError as error:
        where = "standard input" if path == _DASH else str(path)
        raise CommandError(f"Line {line_number} of {where}: {error} Lines before it may be stored.") from error


def report_unary(invocation: Invocation, response: Any, noun: str) -> None:
    """Prints the answer of a unary ingest; ends the command with 1 if anything was refused."""
    from airis.client.errors import from_status

    if invocation.out.is_json:
        invocation.out.document(response)
    if response.rejections:
        fail(" ".join(explain(from_status(rejection.status)) for rejection in response.rejections))
    elif not invocation.out.is_json:
        invocation.out.text(f"Stored {count(response.accepted_count, noun)}.")
