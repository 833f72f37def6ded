"""Gives inputs to the decoders in processes of their own, so that a crash or a hang is a finding, not the end."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

import psutil

from tests.fuzz.decoders import VARIATIONS, Decoders
from tests.fuzz.report import Report

MOST_PROCESSES = 8
SLOW_SECONDS = 2.0
"""Of the processor, for one input of at most some megabytes."""
HANG_SECONDS = 60.0
_CHUNK = 200 * VARIATIONS
_GROWTH_BYTES = 400 << 20
_CONTEXT = multiprocessing.get_context("spawn")


def cores() -> int:
    """How many processes compute at once: one for each core that this one may use, within reason."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def run(seed: int, inputs: int, processes: int, seconds: float | None = None) -> Report:
    """Runs inputs 0 to `inputs`, shared among processes, or as many as there is time for."""
    report = Report()
    ends: float | None = None
    chunks = [(first, min(first + _CHUNK, inputs)) for first in range(0, inputs, _CHUNK)]
    workers = [_Worker(seed) for _ in range(min(processes, len(chunks)))]
    waiting = chunks[::-1]
    while waiting or any(worker.busy for worker in workers):
        if seconds is not None and ends is None and any(worker.has_begun for worker in workers):
            ends = time.monotonic() + seconds
        if ends is not None and time.monotonic() > ends:
            break
        for worker in workers:
            left = worker.look(report)
            if left is not None and left[0] < left[1]:
                waiting.append(left)
            if not worker.busy and waiting:
                worker.give(waiting.pop())
        time.sleep(0.02)
    for worker in workers:
        worker.end(report)
    return report


class _Worker:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chunk: tuple[int, int] | None = None
        self._since = 0.0
        self._last = -1
        self._start()

    def _start(self) -> None:
        self._at: Any = _CONTEXT.RawValue("q", -1)
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process: Any = _CONTEXT.Process(target=_work, args=(self._seed, theirs, self._at), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def busy(self) -> bool:
        return self._chunk is not None

    @property
    def has_begun(self) -> bool:
        return int(self._at.value) >= 0

    def give(self, chunk: tuple[int, int]) -> None:
        self._chunk, self._since, self._last = chunk, time.monotonic(), -1
        self._pipe.send(chunk)

    def look(self, report: Report) -> tuple[int, int] | None:
        """Takes what is done. Gives what is left of a chunk that ended its process."""
        if self._chunk is None:
            return None
        if self._pipe.poll():
            try:
                report.add(self._pipe.recv())
                self._chunk = None
                return None
            except EOFError:
                pass
        at, last = int(self._at.value), self._chunk[1]
        if at != self._last:
            self._last, self._since = at, time.monotonic()
        hangs = time.monotonic() - self._since > HANG_SECONDS
        if self._process.is_alive() and not hangs:
            return None
        self._process.kill()
        self._process.join()
        what = "a decoder hangs" if hangs else f"a decoder ended its process with {self._process.exitcode}"
        report.found(what, f"{self._seed}:d{at}", "see what the process printed")
        self._chunk = None
        self._start()
        return max(at, 0) + 1, last

    def end(self, report: Report) -> None:
        if self._chunk is not None:
            # Out of time: it tells what it has so far.
            self._pipe.send(None)
            if self._pipe.poll(HANG_SECONDS):
                report.add(self._pipe.recv())
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _work(seed: int, pipe: Connection, at: Any) -> None:
    faulthandler.enable()
    decoders = Decoders(seed)
    process = psutil.Process(os.getpid())
    warm: int | None = None
    while True:
        try:
            chunk = pipe.recv()
        except EOFError:
            return
        if chunk is None:
            continue
        report = Report()
        for index in range(*chunk):
            at.value = index
            one(decoders, index, report, f"{seed}:d{index}")
            if index % 64 == 0 and pipe.poll():
                break
        grown = process.memory_info().rss
        # The first inputs load and compile what all need.
        warm = grown if warm is None else warm
        if grown - warm > _GROWTH_BYTES:
            report.found("decoders keep memory", f"{seed}:d{chunk[0]}", f"{warm >> 20} MiB, then {grown >> 20} MiB")
        pipe.send(report)


def one(decoders: Decoders, index: int, report: Report, replay: str) -> None:
    """Gives one input, and notes what it became."""
    began = time.thread_time()
    try:
        report.seen(*decoders.run(index))
    except Exception as error:
        report.raised(error, decoders.name(index), replay)
    took = time.thread_time() - began
    if took > SLOW_SECONDS:
        report.found(f"slow: {decoders.name(index)}", replay, f"{took:.1f} s of the processor")
