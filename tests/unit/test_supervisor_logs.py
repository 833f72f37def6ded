"""The console gets every line with its name, and a console that does not read holds nobody up."""

from __future__ import annotations

import os
from pathlib import Path

from services.supervisor.logs import MAX_LINE, MAX_WAITING, ConsoleLog


def test_lines_carry_their_names_and_are_bounded(tmp_path: Path) -> None:
    with (tmp_path / "console").open("w+") as console:
        log = ConsoleLog(console)
        log.line("metrics", "hello")
        log.line("logs", "x" * 10_000)
        log.text("AIRIS is ready\n")
        log.close()
        console.seek(0)
        first, second, third = console.read().splitlines()
    assert first == "metrics      | hello"
    assert len(second) < MAX_LINE + 30
    assert third == "AIRIS is ready"


def test_a_console_that_does_not_read_loses_lines_and_is_told() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as console, os.fdopen(reader, "rb") as output:
        log = ConsoleLog(console)
        for _ in range(2 * MAX_WAITING):
            log.line("metrics", "x" * 100)
        taken = b""
        while taken.count(b"\n") < 1000:
            taken += os.read(output.fileno(), 65536)
        log.line("metrics", "the end")
        while b"the end" not in taken:
            taken += os.read(output.fileno(), 65536)
        log.close()
    assert b" lines were left out" in taken
