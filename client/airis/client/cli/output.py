"""What commands print: proto3 JSON for programs; tables, bars and sparklines for people."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from airis.client.errors import AirisError
    from google.protobuf.message import Message
    from rich.console import ConsoleOptions, RenderableType

_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
# C0 (tab and newline are text), DEL and C1: a terminal obeys them, and what is shown is others' data. Each becomes one
# character that is seen, so that positions in the text stay what they are.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_VISIBLE = _PICTURES | {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Wide enough that nothing is cut where no terminal sets a width.
_PIPE_WIDTH = 200


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


class Output:
    """Where results go.

    Args:
        form: How they look.
        console: Standard output; None: the process's.
    """

    def __init__(self, form: Format, console: Console | None = None) -> None:
        self.is_json = form is Format.JSON
        self.console = console or stdout_console()

    def document(self, message: Message) -> None:
        """One answer as one JSON document."""
        from google.protobuf.json_format import MessageToJson

        self._write(MessageToJson(message, ensure_ascii=False) + "\n")

    def line(self, message: Message) -> None:
        """One of many answers as a line of JSON."""
        from google.protobuf.json_format import MessageToJson

        self._write(MessageToJson(message, indent=None, ensure_ascii=False) + "\n")

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str | Text]], nothing: str) -> None:
        """A table. Columns whose header begins with ">" are aligned to the right; they and those with "=" do not wrap.

        Args:
            headers: The columns.
            rows: Their cells.
            nothing: What to say when there are no rows.
        """
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        for header in headers:
            table.add_column(
                header.lstrip(">="),
                justify="right" if header.startswith(">") else "left",
                no_wrap=header.startswith(("=", ">")),
                overflow="ellipsis" if header.startswith("=") else "fold",
            )
        for row in rows:
            # Here already, as what is not shown has no width.
            table.add_row(*(_visible_text(cell) for cell in row))
        if table.row_count:
            self.console.print(table)
        else:
            self.text(nothing)

    def text(self, text: str | Text) -> None:
        """A line for people."""
        self.console.print(_visible_text(text), soft_wrap=True)

    def _write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()


class _SafeConsole(Console):
    """A console to which no printed text can give orders."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            # A control segment is Rich's own: a progress bar moves the cursor.
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def visible(text: str) -> str:
    """The text with a visible character for each control character but tab and newline; it is as long as before."""
    return text.translate(_VISIBLE)


def stdout_console() -> Console:
    """Standard output; colours only on a terminal. Control characters are shown, not obeyed."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _SafeConsole(width=width, highlight=False)


def stderr_console() -> Console:
    """Standard error. Control characters are shown, not obeyed."""
    return _SafeConsole(stderr=True, highlight=False, soft_wrap=True)


def explain(error: AirisError) -> str:
    """An error in one sentence, with the fields at fault and when to try again."""
    message = error.message.strip().rstrip(".!") or "The call failed"
    # A reason is the service's; without one, the code is all that tells what kind of failure it is.
    parts = [message if error.reason else f"{message} ({error.code.name})"]
    parts += [
        f"{violation.field}: {violation.description}"
        for violation in error.violations
        if violation.description and violation.description.rstrip(".") not in error.message
    ]
    if error.retry_delay:
        parts.append(f"try again in {error.retry_delay:g} s")
    return "; ".join(part.rstrip(".") for part in parts) + "."


def count(number_of: int, noun: str) -> str:
    """ "1 point", "2 points", "3 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number_of:,} {noun if number_of == 1 else plural}"


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Values as a row of bars: the lowest is the smallest bar, and gaps (NaN) are spaces.

    Args:
        values: The values in order of time.
        width: Characters at most; neighbours are averaged to fit.
    """
    joined = [_mean(part) for part in _parts(values, width)]
    finite = [value for value in joined if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_SPARKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in joined)


def bar(start: float, length: float, width: int) -> str:
    """A bar within a line.

    Args:
        start: Where it begins, 0 to 1.
        length: How long it is, 0 to 1; something is shown in any case.
        width: Characters of the whole line.
    """
    start = min(max(start, 0.0), 1.0)
    length = min(max(length, 0.0), 1.0 - start)
    indent = min(int(start * width), width - 1)
    eighths = max(1, round(length * width * 8))
    eighths = min(eighths, (width - indent) * 8)
    full, rest = divmod(eighths, 8)
    return (" " * indent + _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def number(value: float) -> str:
    """A number with at most six figures."""
    if math.isfinite(value) and abs(value) >= 1e6 and value == int(value):
        return f"{int(value):,}"
    return f"{value:,.6g}"


def labels_text(labels: dict[str, str]) -> str:
    """`host=a, path=/x`."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _visible_text(text: str | Text) -> Text:
    if isinstance(text, str):
        # Before Rich gets it, which leaves some control characters out.
        return Text(visible(text))
    copy = text.copy()
    copy.plain = visible(text.plain)
    return copy


def _parts(values: Sequence[float], width: int) -> list[Sequence[float]]:
    count = min(len(values), width)
    return [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
