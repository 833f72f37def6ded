"""One run of one signal against one target: warm-up, peak, half the peak, and what is stored in the end.

A run that lost an item, or stored one twice, has failed, whatever its speed.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import processes
from bench.beside import MemoryWatch, Neighbour, p95_ms
from bench.call_cores import keep, kept_to
from bench.load import LoadGenerator, LoadResult, Phase
from bench.target import Auditable, Target, TargetError

_POLL_SECONDS, _ANSWER_SECONDS = 0.25, 60.0
_QUIET_SHARE, _QUIET_SECONDS = 0.15, 3.0


@dataclass(frozen=True)
class Plan:
    """How a run goes.

    Attributes:
        signal: "metrics", "logs" or "traces".
        seconds: How long the peak is measured.
        latency_seconds: How long half the peak is offered.
        warm_up_seconds: How long load goes before the clock starts, at most.
        in_flight: Requests at once for the peak. Not more for metrics than a sweep has requests, so that each series
            stays in order: a store may refuse points out of it.
        settle_seconds: How long what is acknowledged may take until it can be read back; longer is a failed run.
        merge_seconds: How long the target may go on working after that before its disk is measured.
        requests: How many requests make the peak at most.
        latency_rate: How many requests a second are offered in place of half the peak.
        warm_up_requests: How many requests go before the clock starts, at most.
        alone_seconds: How long somebody else's few calls are watched before the peak, where there are any.
        server_cores: What the target may run on; empty: anything.
    """

    signal: str
    seconds: float
    latency_seconds: float
    warm_up_seconds: float = 2.0
    in_flight: int = 10
    settle_seconds: float = 300.0
    merge_seconds: float = 60.0
    requests: int | None = None
    latency_rate: float | None = None
    warm_up_requests: int | None = None
    alone_seconds: float = 0.0
    server_cores: Sequence[int] = ()


@dataclass
class Run:
    """What came out.

    Attributes:
        target, signal: What was measured.
        repeat: 0 and up.
        per_second: Items acknowledged a second at the peak.
        per_cpu_second: The same a second of the server's CPU, from the first request until all can be read back, less
            what the last count of it took.
        acknowledgement_ms: p50, p95 and p99 at the peak.
        half_peak_ms: p50, p95 and p99 at half the peak, from when a request was due.
        acknowledged, refused, unknown, stored: Items of the whole run. Of unknown ones the answer did not come.
        settled_seconds: From the last answer until all can be read back.
        readable_per_second: Items of the peak, by the time until all of them can be read back: what a target keeps up
            with, if it acknowledges faster than it stores.
        peak_refused: Of the items offered at the peak, the share that was refused or not answered. Who is offered all
            that it takes may refuse some: that is a figure, and no fault.
        half_peak_refused: The same at half the peak.
        bytes_per_item: What stays on disk: of the tables with their indexes, where the target tells; else of all files.
        files_per_item: Bytes of all files: also of a journal, and of merged parts that wait for their removal.
        memory_bytes: PSS after the peak.
        peak_memory_bytes: The highest PSS during the peak, where somebody else sends, too.
        neighbour_p95_ms: Until somebody else's few calls are acknowledged, "alone" and "beside" the peak.
        generator_busy: The share of the peak in which the load generator's processes were busy.
        foreign_cores: How many cores other programs of the machine were busy with at the peak, on average.
        audit: Counts of the stopped store.
        table_bytes_per_item: Of each table, where the target tells.
        faults: What makes it a failed run.
        output: What the target of a failed run printed last, where it tells.
    """

    target: str
    signal: str
    repeat: int
    start_seconds: float = math.nan
    per_second: float = math.nan
    per_cpu_second: float = math.nan
    acknowledgement_ms: Mapping[str, float] = field(default_factory=dict)
    half_peak_ms: Mapping[str, float] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    stored: int = 0
    settled_seconds: float = math.nan
    readable_per_second: float = math.nan
    peak_refused: float = math.nan
    half_peak_refused: float = math.nan
    bytes_per_item: float = math.nan
    files_per_item: float = math.nan
    memory_bytes: float = math.nan
    peak_memory_bytes: float = math.nan
    neighbour_p95_ms: dict[str, float] = field(default_factory=dict)
    generator_busy: float = math.nan
    foreign_cores: float = math.nan
    errors: dict[str, int] = field(default_factory=dict)
    audit: Mapping[str, int] = field(default_factory=dict)
    table_bytes_per_item: Mapping[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    output: str = ""

    def fault_lines(self) -> list[str]:
        """Each of `faults`, and of which run it is."""
        return [f"{self.signal}, {self.target}, repeat {self.repeat}: {fault}" for fault in self.faults]


def faults_of(acknowledged: int, unknown: int, counts: Mapping[str, int]) -> list[str]:
    """What is wrong with what is stored; empty: something is, nothing is lost and nothing doubled.

    Args:
        acknowledged: Items that must be stored, each once.
        unknown: Items that may be stored, each once.
        counts: Of what is stored, by how it was counted; all must agree.
    """
    found = [] if acknowledged else ["nothing was acknowledged"]
    for what, count in counts.items():
        if count < acknowledged:
            found.append(f"{acknowledged - count} of {acknowledged} acknowledged items are lost ({what}: {count})")
        elif count > acknowledged + unknown:
            found.append(f"{count - acknowledged - unknown} items are doubled ({what}: {count})")
    return found


def read_back(target: Target, signal: str, ask: Callable[[], None] = lambda: None) -> int:
    """How many items of a signal a target says it stores.

    Args:
        target: Runs.
        signal: One that it takes.
        ask: Called before each attempt.

    Raises:
        TargetError: It does not say within a minute.
    """
    # After a peak a server may refuse a query, or answer it late.
    ends = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            ask()
            return target.stored(signal)
        except TargetError:
            if time.monotonic() > ends:
                raise
            time.sleep(_POLL_SECONDS)


class IngestRun:
    """Runs a plan against a target in a new folder.

    Args:
        target: Not started yet; stopped in the end.
        plan: How the run goes.
        load: The generator of the plan's signal.
        repeat: Which repeat this is.
        work: Where the folder is made; None: where the system keeps temporary files.
        other: The generator of somebody else's few "calls" before and during the peak; None: there are none.
    """

    def __init__(
        self,
        target: Target,
        plan: Plan,
        load: LoadGenerator,
        repeat: int,
        work: Path | None = None,
        other: LoadGenerator | None = None,
    ) -> None:
        self._target = target
        self._plan = plan
        self._load = load
        self._work = work
        self._other = other
        self._next = 0
        self._counting_cpu_seconds = 0.0
        self.run = Run(target.name, plan.signal, repeat)

    def measure(self) -> Run:
        """Runs the plan.

        Raises:
            TargetError: The target does not start or cannot be asked.
            ConnectionError: It does not take requests.
        """
        directory = Path(tempfile.mkdtemp(prefix="airis-bench-", dir=self._work))
        try:
            try:
                began = time.monotonic()
                with kept_to(self._plan.server_cores):
                    self._target.start(directory)
                keep(processes.tree(self._target.pids()), self._plan.server_cores)
                self.run.start_seconds = time.monotonic() - began
                self._while_it_runs()
            finally:
                self._target.stop()
            self._after_it_stopped()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return self.run

    def _while_it_runs(self) -> None:
        plan, target = self._plan, self._target
        empty = target.disk_bytes()
        if plan.warm_up_seconds:
            self._send(plan.warm_up_seconds, requests=plan.warm_up_requests)
            self._settle()
        peak = self._peak()
        if plan.latency_seconds:
            half = plan.latency_rate or peak.requests / peak.seconds / 2
            # Enough lanes, so that an answer that is late does not keep later requests from being sent.
            result = self._send(plan.latency_seconds, rate=half, in_flight=4 * plan.in_flight)
            self.run.half_peak_ms = _latencies(result)
            self.run.half_peak_refused = result.refused_share
            self._settle()
        self._quiet(plan.merge_seconds)
        if target.stores:
            # Again, after all merges: nothing may have gone or been doubled by them.
            self.run.stored = read_back(self._target, self._plan.signal)
            self.run.faults += faults_of(self.run.acknowledged, self.run.unknown, {"read back": self.run.stored})
            self.run.files_per_item = (target.disk_bytes() - empty) / max(1, self.run.stored)
            self.run.bytes_per_item = self.run.files_per_item

    def _peak(self) -> LoadResult:
        run, pids = self.run, self._target.pids()
        machine = server = began = 0.0

        def begin() -> None:
            nonlocal machine, server, began
            machine, server = processes.machine_cpu_seconds(), processes.cpu_seconds(pids)
            began = time.monotonic()
            load_began.set()

        with self._company() as load_began:
            result = self._send(self._plan.seconds, requests=self._plan.requests, began=begin)
            ended = time.monotonic()
        at_end = processes.cpu_seconds(pids)
        foreign = processes.machine_cpu_seconds() - machine - (at_end - server) - result.generator_cpu_seconds
        run.foreign_cores = max(0.0, foreign / (time.monotonic() - began))
        run.memory_bytes = processes.memory(pids).pss
        self._settle()
        run.settled_seconds = time.monotonic() - ended
        run.per_second = result.per_second
        run.readable_per_second = result.acknowledged / max(0.01, result.seconds + run.settled_seconds)
        spent = processes.cpu_seconds(pids) - server - self._counting_cpu_seconds
        run.per_cpu_second = result.acknowledged / max(0.01, spent)
        run.acknowledgement_ms = _latencies(result)
        run.generator_busy = result.generator_busy
        run.peak_refused = result.refused_share
        if not result.acknowledged:
            run.faults.append("nothing was acknowledged at the peak")
        return result

    @contextlib.contextmanager
    def _company(self) -> Iterator[threading.Event]:
        """Watches the memory and, once the load began, somebody else's calls meanwhile, if there are any."""
        load_began = threading.Event()
        if self._other is None:
            yield load_began
            return
        neighbour = Neighbour(self._other, self._target.endpoint(self._plan.signal))
        self._count(neighbour.learn())
        alone = neighbour.alone(self._plan.alone_seconds)
        self._count(alone)
        self._settle()
        with MemoryWatch(self._target.pids()) as memory, neighbour.beside(load_began) as beside:
            yield load_began
        for result in beside:
            self._count(result)
        self.run.peak_memory_bytes = memory.most
        self.run.neighbour_p95_ms = {"alone": p95_ms([alone]), "beside": p95_ms(beside)}

    def _send(
        self,
        seconds: float,
        rate: float | None = None,
        requests: int | None = None,
        in_flight: int = 0,
        began: Callable[[], None] = lambda: None,
    ) -> LoadResult:
        endpoint = self._target.endpoint(self._plan.signal)
        phase = Phase(endpoint, self._next, in_flight or self._plan.in_flight, seconds, rate, requests)
        result = self._load.run(phase, began)
        self._next = result.next_number
        self._count(result)
        return result

    def _count(self, result: LoadResult) -> None:
        self.run.acknowledged += result.acknowledged
        self.run.refused += result.refused
        self.run.unknown += result.unknown
        for error, count in result.errors.items():
            self.run.errors[error] = self.run.errors.get(error, 0) + count

    def _settle(self) -> None:
        """Waits until what is acknowledged can be read back."""
        began = time.monotonic()
        if self._target.stores:
            while not self._all_is_there():
                if time.monotonic() - began > self._plan.settle_seconds:
                    self.run.faults.append(f"not all could be read back within {self._plan.settle_seconds:.0f} s")
                    break
                time.sleep(_POLL_SECONDS)

    def _all_is_there(self) -> bool:
        # The last count is no cost of storing: then all is stored, and some targets have to read it all to count it.
        before = 0.0

        def ask() -> None:
            nonlocal before
            before = processes.cpu_seconds(self._target.pids())

        stored = read_back(self._target, self._plan.signal, ask)
        self._counting_cpu_seconds = processes.cpu_seconds(self._target.pids()) - before
        return stored >= self.run.acknowledged

    def _quiet(self, within: float) -> None:
        """Waits until the target hardly works any more: its merges are done."""
        ends = time.monotonic() + within
        while time.monotonic() < ends:
            before = processes.cpu_seconds(self._target.pids())
            time.sleep(min(_QUIET_SECONDS, within))
            if processes.cpu_seconds(self._target.pids()) - before < _QUIET_SHARE * _QUIET_SECONDS:
                return

    def _after_it_stopped(self) -> None:
        run, signal = self.run, self._plan.signal
        if isinstance(self._target, Auditable):
            run.audit = self._target.audit(signal)
            run.faults += faults_of(run.acknowledged, run.unknown, {"read back": run.stored, **run.audit})
        # What was found once may be found again.
        run.faults = list(dict.fromkeys(run.faults))
        if table_bytes := getattr(self._target, "table_bytes", None):
            sizes = table_bytes(signal)
            run.table_bytes_per_item = {table: size / max(1, run.stored) for table, size in sizes.items()}
            run.bytes_per_item = sum(run.table_bytes_per_item.values())


def _latencies(result: LoadResult) -> dict[str, float]:
    return {name: result.latency(at) * 1e3 for name, at in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
