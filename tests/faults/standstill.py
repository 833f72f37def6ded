"""Processes that stand still (SIGSTOP): they answer nothing, and their connections stay."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@contextmanager
def standstill(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """They stand still within, and go on afterwards."""
    _send(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        go_on(processes)


def go_on(processes: Sequence[psutil.Process]) -> None:
    """Those that stand still go on."""
    _send(processes, signal.SIGCONT)


def _send(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
