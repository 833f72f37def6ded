"""The same questions to ours and to the peers, about the same data, in turn.

A question is asked with other parameters each time. Each answer is counted (series, lines, spans, ...), so that a fast
answer that is wrong is seen: the counts stand beside the times.
"""

from __future__ import annotations

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench import processes
from bench.load import LoadGenerator, Phase
from bench.payloads import ITEMS, SERVICES, payloads
from bench.peers.kill import settled
from bench.results import NOT_MEASURED, Spread, spread
from bench.target import Target, TargetError

AVERAGE, RATE = "average by label, one hour by minute", "rate by host, one hour by minute"
RARE, ERRORS, KOREAN = "rare word", "newest 50 errors of a service", "Korean word count"
TRACE, SLOW, MAP = "trace by id", "service and duration", "service map"
GOALS_MS = {AVERAGE: 5.0, RATE: 7.0, RARE: 7.0, ERRORS: 7.0, KOREAN: 10.0, TRACE: 3.0, SLOW: 20.0, MAP: 20.0}
"""What the median of ours is to be."""
KOREAN_WORDS = ("결제", "배송", "재고", "주문", "고객")
HOUR_SECONDS = 3600
# How far apart requests are in the data's time, by signal.
_REQUEST_SECONDS = {"metrics": 1.0, "logs": 0.5, "traces": 0.25}
# One answer takes less than the system counts, and what the server does beside it comes in bursts.
_PARTS = 10

Ask = Callable[[int], int]
"""Asks with the parameters of a number, and returns how much the answer held."""


@dataclass(frozen=True)
class Data:
    """What was sent: so many requests of `bench.payloads` from a base on."""

    signal: str
    base_ns: int
    requests: int

    @property
    def end(self) -> int:
        """The second after the last item."""
        return self.base_ns // 10**9 + int(self.requests * _REQUEST_SECONDS[self.signal]) + 20

    @property
    def begin(self) -> int:
        """The second of the first item."""
        return self.base_ns // 10**9

    def hour(self, number: int) -> tuple[int, int]:
        """The seconds of an hour at whole minutes, within the data if it is so long; another for each number."""
        spare = max(1, (self.end - self.begin - HOUR_SECONDS) // 60)
        end = (self.end // 60 - number % spare) * 60
        return end - HOUR_SECONDS, end

    def service(self, number: int) -> str:
        """One of the services."""
        return SERVICES[number % len(SERVICES)]

    @property
    def root_service(self) -> str:
        """The service of each trace's first span, which is its longest."""
        return SERVICES[0]

    def line(self, number: int) -> str:
        """A text that stands in one line."""
        return f"{number * 7919 % (self.requests * ITEMS['logs']):012d}"

    def trace_ids(self, count: int) -> list[str]:
        """Ids of traces that are there, as hex."""
        source = payloads("traces", self.base_ns)
        found = []
        for at in range(count):
            request = ExportTraceServiceRequest.FromString(source.request(at * 7919 % self.requests))
            found.append(request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex())
        return found


@dataclass(frozen=True)
class Answered:
    """How long one question took of one target.

    Attributes:
        question, target: Which.
        p50_ms, p95_ms: Over all times that it was asked.
        answers: The median of what the answers held.
        fault: Why it could not be asked, or proves nothing; empty: it was, and answered.
        parts_ms: Of the medians of each tenth of those times.
        cpu_ms: CPU of all processes of the target for one answer, of the means of each tenth.
    """

    question: str
    target: str
    p50_ms: float = float("nan")
    p95_ms: float = float("nan")
    answers: float = 0.0
    fault: str = ""
    parts_ms: Spread = NOT_MEASURED
    cpu_ms: Spread = NOT_MEASURED


def measure_questions(
    targets: Sequence[tuple[Target, Callable[[Data], Mapping[str, Ask]]]],
    data: Data,
    repeats: int,
    report: Callable[[Answered], None],
    work: Path | None = None,
) -> list[Answered]:
    """Starts all targets, gives each the same data, and asks them in turn.

    Args:
        targets: Not started, each with what makes its questions once it has the data.
        data: What each gets.
        repeats: How often each question is asked.
        report: Called with each result.
        work: Where data folders are made; None: where the system keeps temporary files.
    """
    asks: list[tuple[Target, Mapping[str, Ask]]] = []
    found = []
    with ExitStack() as stack:
        for target, questions in targets:
            directory = Path(tempfile.mkdtemp(prefix="airis-bench-", dir=work))
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            stack.callback(target.stop)
            try:
                _fill(target, data, directory)
                asks.append((target, questions(data)))
            except (TargetError, ConnectionError, OSError) as error:
                target.stop()
                found.append(Answered(data.signal, target.name, fault=str(error)))
        for question in dict.fromkeys(name for _, questions in asks for name in questions):
            able = [(target, questions[question]) for target, questions in asks if question in questions]
            found += _ask_in_turn(question, able, repeats)
    for each in found:
        report(each)
    return found


def _fill(target: Target, data: Data, directory: Path) -> None:
    target.start(directory)
    with LoadGenerator(data.signal, data.base_ns) as load:
        # Gently: what is measured comes later, and none should refuse anything.
        result = load.run(Phase(target.endpoint(data.signal), 0, 4, 1200.0, requests=data.requests))
    if result.acknowledged != data.requests * ITEMS[data.signal]:
        raise TargetError(f"{target.name} took {result.acknowledged} items only: {result.errors}")
    if (stored := settled(target, data.signal, result.acknowledged)) != result.acknowledged:
        raise TargetError(f"{target.name} stored {stored} of {result.acknowledged} items")


@dataclass
class _Asked:
    """What came of one question to one target."""

    times_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    fault: str = ""


def _ask_in_turn(question: str, able: Sequence[tuple[Target, Ask]], repeats: int) -> list[Answered]:
    asked = {target.name: _Asked() for target, _ in able}
    # The first two rounds warm up caches of code and connections, and do not count.
    for number in range(-2, repeats):
        for target, ask in able:
            own = asked[target.name]
            before = processes.cpu_seconds(target.pids())
            began = time.perf_counter()
            try:
                count = ask(number + 2)
            except Exception as error:
                own.fault = f"{question}: {type(error).__name__}: {error}"[:300]
                continue
            took = time.perf_counter() - began
            if number >= 0:
                own.times_ms.append(took * 1e3)
                own.cpu_ms.append((processes.cpu_seconds(target.pids()) - before) * 1e3)
                own.answers.append(count)
    return [_answered(question, target.name, asked[target.name]) for target, _ in able]


def _answered(question: str, target: str, asked: _Asked) -> Answered:
    if not asked.times_ms:
        return Answered(question, target, fault=asked.fault or "was not asked")
    answers = statistics.median(asked.answers)
    return Answered(
        question,
        target,
        *(float(np.quantile(asked.times_ms, at)) for at in (0.5, 0.95)),
        parts_ms=spread(statistics.median(part) for part in _parts(asked.times_ms)),
        cpu_ms=spread(statistics.fmean(part) for part in _parts(asked.cpu_ms)),
        answers=answers,
        fault=asked.fault or ("" if answers else "its answers are empty"),
    )


def _parts(values: Sequence[float]) -> list[Sequence[float]]:
    size = math.ceil(len(values) / _PARTS)
    return [values[at : at + size] for at in range(0, len(values), size)]
