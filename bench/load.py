"""The load generator: processes of their own, so that what they cost is not the server's.

`with LoadGenerator("metrics", base_ns) as load: result = load.run(Phase(endpoint, first=0, in_flight=10, seconds=10))`.
A phase that has `rate` is an open loop, and its latencies count from when a request was due.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np

from bench.load_lane import REQUEST_SECONDS, Lane, Phase, Tally
from bench.payloads import payloads
from bench.processes import cpu_seconds

__all__ = ["LoadGenerator", "LoadResult", "Phase"]

_PREPARED_BYTES, _PREPARED_A_SECOND = 384 * 2**20, 2000.0
_HEAD_START_SECONDS = 0.05
_PREPARE_SECONDS = 300.0


@dataclass(frozen=True)
class LoadResult:
    """What became of a phase; items are points, records or spans.

    Attributes:
        acknowledged: Items that the server said it took.
        refused: Items that it said it did not take.
        unknown: Items without an answer: stored or not.
        requests: That were sent.
        errors: How often each refusal or error came.
        latencies: Seconds until each acknowledgement, ascending; in an open loop from when the request was due.
        seconds: From the start to the last answer.
        next_number: The number that the next phase may begin with.
        generator_cpu_seconds: What the generator itself took.
        generator_cores: How many cores it could use at once.
    """

    acknowledged: int
    refused: int
    unknown: int
    requests: int
    errors: dict[str, int]
    latencies: list[float]
    seconds: float
    next_number: int
    generator_cpu_seconds: float
    generator_cores: int

    @property
    def generator_busy(self) -> float:
        """The share of the time in which the generator was busy; near 1, it limits what is measured."""
        return self.generator_cpu_seconds / self.generator_cores / self.seconds if self.seconds else 0.0

    @property
    def refused_share(self) -> float:
        """Of the items that were offered, the share that was refused or not answered."""
        missing = self.refused + self.unknown
        return missing / max(1, self.acknowledged + missing)

    @property
    def per_second(self) -> float:
        """Acknowledged items a second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def latency(self, quantile: float) -> float:
        """A quantile (0.95) of the latencies in seconds; not a number if nothing was acknowledged."""
        return float(np.quantile(self.latencies, quantile)) if self.latencies else float("nan")


class LoadGenerator:
    """Processes that send requests of one signal.

    Args:
        signal: "metrics", "logs" or "traces".
        base_ns: The time of the first item.
        series: How many series metrics have.
        processes: How many there are; their lanes are dealt out evenly.
        prepared_bytes: How much each of them makes before the clock starts.
    """

    def __init__(
        self,
        signal: str,
        base_ns: int,
        series: int = 10_000,
        processes: int = 2,
        prepared_bytes: int = _PREPARED_BYTES,
    ) -> None:
        # Without a lock: a process that is killed would keep it.
        self._ends = multiprocessing.get_context("spawn").RawValue(ctypes.c_double, math.inf)
        self._arguments = (self._ends, prepared_bytes, signal, base_ns, series)
        self._count = processes
        self._workers: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for index in range(self._count):
            ours, theirs = context.Pipe()
            arguments = (theirs, index, self._count, *self._arguments)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def _end(self) -> None:
        for process, pipe in self._workers:
            # Closing it is what ends the loop there.
            pipe.close()
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers.clear()

    @property
    def pids(self) -> list[int]:
        """The generator's processes."""
        return [process.pid for process, _ in self._workers if process.pid is not None]

    def end_phase(self) -> None:
        """Ends the open loop that another thread runs: what is due from now on is not sent any more."""
        self._ends.value = time.monotonic()

    def run(self, phase: Phase, began: Callable[[], None] = lambda: None) -> LoadResult:
        """Sends a phase. What it sends is prepared before the clock starts.

        Args:
            phase: What to send.
            began: Called when the clock starts.

        Raises:
            ConnectionError: The endpoint cannot be reached, or a process of the generator ended.
        """
        try:
            return self._run(phase, began)
        except Exception:
            # Some may still be about this phase: what they answer would be taken for the next one's.
            for process, _ in self._workers:
                process.kill()
            self._end()
            self._start()
            raise

    def _run(self, phase: Phase, began: Callable[[], None]) -> LoadResult:
        for _, pipe in self._workers:
            pipe.send(phase)
        for _, pipe in self._workers:
            self._receive(pipe, _PREPARE_SECONDS)
        self._ends.value = math.inf
        before = cpu_seconds(self.pids)
        begin = time.monotonic() + _HEAD_START_SECONDS
        for _, pipe in self._workers:
            pipe.send(begin)
        began()
        within = phase.seconds + 3 * REQUEST_SECONDS
        tallies = [tally for _, pipe in self._workers for tally in self._receive(pipe, within)]
        cores = min(self._count, len(os.sched_getaffinity(self.pids[0])))
        return _sum(phase, tallies, begin, cpu_seconds(self.pids) - before, cores)

    def _receive(self, pipe: Connection, within: float) -> list[Tally]:
        try:
            answer: list[Tally] | str = pipe.recv() if pipe.poll(within) else f"no answer within {within:.0f} s"
        except EOFError:
            answer = "a process ended"
        if isinstance(answer, str):
            raise ConnectionError(f"The load generator failed: {answer}")
        return answer


def _sum(phase: Phase, tallies: list[Tally], begin: float, cpu: float, cores: int) -> LoadResult:
    errors: Counter[str] = Counter()
    for tally in tallies:
        errors.update(tally.errors)
    # Rounded up to a whole round of lanes, so that each lane goes on with its series.
    sent = max(tally.next_number for tally in tallies) - phase.first
    rounds = -(-sent // phase.in_flight)
    return LoadResult(
        acknowledged=sum(tally.acknowledged for tally in tallies),
        refused=sum(tally.refused for tally in tallies),
        unknown=sum(tally.unknown for tally in tallies),
        requests=sum(tally.requests for tally in tallies),
        errors=dict(errors),
        latencies=sorted(latency for tally in tallies for latency in tally.latencies),
        seconds=max(0.0, max(tally.ended for tally in tallies) - begin),
        next_number=phase.first + rounds * phase.in_flight,
        generator_cpu_seconds=cpu,
        generator_cores=cores,
    )


def _work(
    pipe: Connection,
    index: int,
    count: int,
    ends: ctypes.c_double,
    prepared_bytes: int,
    signal: str,
    base_ns: int,
    series: int,
) -> None:
    source = payloads(signal, base_ns, series)
    while True:
        try:
            phase: Phase = pipe.recv()
        except EOFError:
            return
        numbers = range(index, phase.in_flight, count)
        try:
            share = prepared_bytes // max(1, len(numbers))
            requests = int(_PREPARED_A_SECOND * phase.seconds / phase.in_flight) + 1
            lanes = [Lane(phase, number, source, share, requests) for number in numbers]
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")
            continue
        pipe.send([])
        begin: float = pipe.recv()
        threads = [threading.Thread(target=lane.run, args=(begin, lambda: ends.value)) for lane in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send([lane.tally for lane in lanes])
