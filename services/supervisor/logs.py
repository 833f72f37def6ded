"""Brings the lines of all children to the console without ever waiting for it."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from typing import TextIO

COLORS = ("36", "32", "33", "35", "34", "96", "92", "93", "95", "94")
MAX_LINE = 4096
MAX_WAITING = 10_000


class ConsoleLog:
    """Writes `name | line`. A console that does not keep up loses lines, and is told how many.

    Args:
        stream: Where to write; colors are used if it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        stream.flush()
        self._descriptor = stream.fileno()
        self._color = stream.isatty()
        self._waiting: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        self._names: dict[str, str] = {}
        self._dropped = 0
        self._writer = threading.Thread(target=self._write, name="console", daemon=True)
        self._writer.start()

    def line(self, name: str, text: str) -> None:
        """Queues one line, cut at 4096 characters."""
        if len(text) > MAX_LINE:
            text = text[:MAX_LINE] + " …"
        try:
            if self._dropped:
                self._waiting.put_nowait(f"{self._prefix('airis')}{self._dropped} lines were left out\n")
                self._dropped = 0
            self._waiting.put_nowait(f"{self._prefix(name)}{text}\n")
        except queue.Full:
            self._dropped += 1

    def text(self, text: str) -> None:
        """Queues text that goes out as it is."""
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Writes what waits, for at most two seconds."""
        try:
            self._waiting.put(None, timeout=1)
        except queue.Full:
            return
        self._writer.join(2)

    def _prefix(self, name: str) -> str:
        if name not in self._names:
            color = COLORS[len(self._names) % len(COLORS)]
            plain = f"{name:<12} | "
            self._names[name] = f"\x1b[{color}m{plain}\x1b[0m" if self._color else plain
        return self._names[name]

    def _write(self) -> None:
        while (text := self._waiting.get()) is not None:
            # Past the stream: a thread that waits inside of it could not be left behind at exit.
            rest = text.encode("utf-8", "replace")
            # Where the terminal has gone, the platform goes on without it.
            with contextlib.suppress(OSError):
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
