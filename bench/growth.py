"""Ingest as the store grows: `python -m bench.growth [--signals metrics] [--items 100000000] [--json FILE]`.

Sends a signal to a new platform, through Envoy and as fast as it is answered, until so many items are stored. Says for
each hundredth what an item cost the server's CPU, merges included, how fast items were acknowledged and how much memory
the platform took. The goal is that the last tenth stores at least 0.9 of the items a CPU-second that the first did.
Ends with 1 when it is missed, or an item was lost or doubled, or less than 0.9 of what was to be sent was acknowledged,
or a run was broken off; the stages before that are kept. Memory is told, and not judged.
"""

from __future__ import annotations

import argparse
import math
import os
import platform as machine
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import processes
from bench.airis_target import AirisTarget
from bench.environment import environment
from bench.folders import RESULTS, absolute, work_folder
from bench.ingest import faults_of, read_back
from bench.load import LoadGenerator, Phase
from bench.payloads import ITEMS, base_before, payloads
from bench.results import write_json
from bench.target import SIGNALS, Auditable, Target, TargetError

GOAL = 0.9
LEAST_SHARE = 0.9
"""Of what was to be sent: a run of which less was acknowledged says nothing of a store that is full."""
STAGES, COMPARED = 100, 10
"""Into how many stages a run is divided, and how many of its first and last are compared."""
_SERIES, _IN_FLIGHT = 10_000, 16
_STAGE_SECONDS, _SETTLE_SECONDS, _POLL_SECONDS = 600.0, 300.0, 0.5
# As docs/benchmarks.md has them, on two cores: what stays on disk of an item, and the slowest tenth of a growth.
_BYTES_PER_ITEM = {"metrics": 4.9, "logs": 87.0, "traces": 41.5}
_PER_CPU_SECOND = {"metrics": 245_000, "logs": 64_000, "traces": 52_000}
_MEASURED_ON_CORES = 2


@dataclass(frozen=True)
class Stage:
    """One hundredth of a run.

    Attributes:
        items: How many were acknowledged up to its end, in all.
        per_cpu_second: Items acknowledged a second of the server's CPU, from the begin of this stage to the next one's.
        per_second: Items acknowledged a second while requests were sent.
        p95_ms: Until an acknowledgement.
        memory_bytes: PSS of the platform at its end.
    """

    items: int
    per_cpu_second: float
    per_second: float
    p95_ms: float
    memory_bytes: float


@dataclass(frozen=True)
class Growth:
    """What became of a run.

    Attributes:
        signal: What was sent.
        stages: In their order.
        ratio: Items a CPU-second at the end over those at the beginning, of `COMPARED` stages each; not a number
            without a stage.
        errors: How often each refusal or error came.
        faults: What is lost or doubled, and why the run did not come to its end.
    """

    signal: str
    stages: list[Stage]
    ratio: float
    errors: dict[str, int]
    faults: list[str]


def ratio(stages: Sequence[Stage]) -> float:
    """Items a CPU-second of the last stages over those of the first.

    The very first stage is left out where there are enough: it makes all series new.
    """
    figures = [stage.per_cpu_second for stage in stages]
    first = figures[1 : COMPARED + 1] or figures
    if not first or not all(first):
        return math.nan
    # Of stages of as many items each: all items over all seconds. Merges come in bursts, so that no stage is typical.
    return statistics.harmonic_mean(figures[-COMPARED:]) / statistics.harmonic_mean(first)


def grow(
    target: Target, signal: str, items: int, work: Path | None = None, told: Callable[[Stage], None] = lambda _: None
) -> Growth:
    """Fills a target.

    Args:
        target: Not started yet; stopped in the end.
        signal: "metrics", "logs" or "traces".
        items: How many are sent, in whole requests.
        work: Where its folder is made; None: where the system keeps temporary files.
        told: Called after each stage.
    """
    requests = max(1, items // STAGES // ITEMS[signal])
    base = base_before(time.time_ns(), _hours(signal, requests * STAGES))
    # Metrics have as many lanes as a sweep over the series has requests, so that each series stays in order.
    in_flight = payloads(signal, base, _SERIES).period if signal == "metrics" else _IN_FLIGHT
    requests = -(-requests // in_flight) * in_flight
    with (
        tempfile.TemporaryDirectory(prefix="airis-growth-", dir=work, ignore_cleanup_errors=True) as folder,
        LoadGenerator(signal, base, _SERIES) as load,
    ):
        run = _Run(target, signal, load, requests, in_flight)
        counts: dict[str, int] = {}
        faults: list[str] = []
        try:
            try:
                run.start(Path(folder))
                stages = max(1, items // (requests * ITEMS[signal]))
                for _ in range(stages):
                    run.stage()
                    told(run.stages[-1])
                if run.acknowledged < LEAST_SHARE * (asked := stages * requests * ITEMS[signal]):
                    faults.append(f"only {run.acknowledged} of {asked} items were acknowledged")
                counts["read back"] = run.settle()
            finally:
                target.stop()
            if isinstance(target, Auditable):
                counts.update(target.audit(signal))
        except (TargetError, OSError) as error:
            faults.append(f"broken off: {error}")
        faults += faults_of(run.acknowledged, run.unknown, counts)
    return Growth(signal, run.stages, ratio(run.stages), run.errors, faults)


class _Run:
    """A target that is being filled."""

    def __init__(self, target: Target, signal: str, load: LoadGenerator, requests: int, in_flight: int) -> None:
        self._target, self._signal, self._load = target, signal, load
        self._requests, self._in_flight = requests, in_flight
        self._next = 0
        self._cpu = 0.0
        self.acknowledged = self.unknown = 0
        self.stages: list[Stage] = []
        self.errors: dict[str, int] = {}

    def start(self, folder: Path) -> None:
        """Starts the target."""
        self._target.start(folder)
        self._cpu = processes.cpu_seconds(self._target.pids())

    def stage(self) -> None:
        """Sends one hundredth."""
        endpoint = self._target.endpoint(self._signal)
        phase = Phase(endpoint, self._next, self._in_flight, _STAGE_SECONDS, requests=self._requests)
        result = self._load.run(phase)
        self._next = result.next_number
        self.acknowledged += result.acknowledged
        self.unknown += result.unknown
        for error, count in result.errors.items():
            self.errors[error] = self.errors.get(error, 0) + count
        pids = self._target.pids()
        # Merges go on while the generator makes the next requests: they count for what was just sent.
        cpu = processes.cpu_seconds(pids)
        spent, self._cpu = cpu - self._cpu, cpu
        memory = processes.memory(pids).pss
        figures = (result.acknowledged / max(0.01, spent), result.per_second, result.latency(0.95) * 1e3)
        self.stages.append(Stage(self.acknowledged, *figures, memory))

    def settle(self) -> int:
        """Waits until all that was acknowledged can be read back; returns how much can be."""
        ends = time.monotonic() + _SETTLE_SECONDS
        while (stored := read_back(self._target, self._signal)) < self.acknowledged and time.monotonic() < ends:
            time.sleep(_POLL_SECONDS)
        return stored


def _hours(signal: str, requests: int) -> float:
    """How long before now the first item must have happened, so that the last is not in the future."""
    source = payloads(signal, 0, _SERIES)
    return 1.0 + requests // source.period * source.step_ns / 3600e9


def needs(signals: Sequence[str], items: int, free_bytes: float, cores: float) -> str:
    """What a run takes of the disk and the day, for people, and roughly.

    Args:
        signals: Which are sent, one after the other.
        items: How many of each.
        free_bytes: What the disk has.
        cores: How many there are; whether more than two make it faster is not known.
    """
    # While parts are merged, all of them may be there twice.
    disk = 2 * items * max(_BYTES_PER_ITEM[signal] for signal in signals)
    seconds = sum(items / _PER_CPU_SECOND[signal] for signal in signals) / min(cores, _MEASURED_ON_CORES)
    return (
        f"needs up to {disk / 2**30:.1f} GiB of disk, of which {free_bytes / 2**30:.1f} GiB are free,"
        f" and some {seconds / 3600:.1f} hours"
    )


def _line(signal: str, stage: Stage) -> str:
    return (
        f"{signal:<8}{stage.items:>13,} items  {stage.per_cpu_second:>9,.0f} a CPU-second"
        f"  {stage.per_second:>9,.0f} a second  p95 {stage.p95_ms:>5.0f} ms  {stage.memory_bytes / 2**20:>6,.0f} MiB"
    )


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", nargs="+", choices=SIGNALS, default=list(SIGNALS))
    parser.add_argument("--items", type=int, default=100_000_000, help="of each signal")
    parser.add_argument("--work-dir", type=absolute, help="on the disk to measure; default: temporary")
    parser.add_argument("--json", type=Path, default=RESULTS / "growth.json", help="where the figures are written")
    chosen = parser.parse_args()
    cores = processes.cores()
    print(f"Python {machine.python_version()}, {cores:g} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    work = work_folder(chosen.work_dir, RESULTS)
    where = environment(work)
    print(needs(chosen.signals, chosen.items, shutil.disk_usage(work).free, cores), flush=True)
    found: list[dict[str, Any]] = []
    for signal in chosen.signals:
        growth = grow(
            AirisTarget(),
            signal,
            chosen.items,
            work,
            lambda stage, of=signal: print(_line(of, stage), flush=True),
        )
        is_met = growth.ratio >= GOAL and not growth.faults
        found.append({**asdict(growth), "ok": is_met})
        for problem in [*growth.faults, *(f"{count} × {error}" for error, count in growth.errors.items())]:
            print(f"{signal}: {problem}")
        print(
            f"{signal}: the last {COMPARED} stages store {growth.ratio:.2f} of what the first do in a CPU-second;"
            f" goal: {GOAL}: {'met' if is_met else 'MISSED'}"
        )
        ok = all(each["ok"] for each in found)
        options = {"signals": chosen.signals, "items": chosen.items}
        document = {"environment": where, "options": options, "ok": ok, "signals": found}
        write_json(chosen.json, document)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
