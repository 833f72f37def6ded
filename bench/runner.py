"""Runs signals against targets, in turn: each repeat goes round all targets, so that a busy minute hits none alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.call_cores import Division, divided, kept_to
from bench.ingest import IngestRun, Plan, Run
from bench.load import LoadGenerator
from bench.payloads import payloads
from bench.results import CALLS, MANY_SERIES, NEW_SERIES
from bench.target import SIGNALS, Target, TargetError

_SERIES, _MANY_SERIES = 10_000, 1_000_000
# Of a sweep over all series; a million new ones take half a minute.
_SWEEP_SECONDS = 120.0
# Few enough that calls hardly wait for each other.
_CALLS_A_SECOND = 100.0
_CALLS_IN_FLIGHT = 32
# Of everything but calls, each process of the load generator sends more than a server takes.
_TOGETHER = Division((), (), 2)


@dataclass(frozen=True)
class Options:
    """How runs go; all targets alike.

    Attributes:
        base_ns: The time of the first item; see `bench.payloads`.
        repeats: How often each target runs each signal.
        seconds: The peak.
        latency_seconds: Half the peak.
        warm_up_seconds: Before both.
        merge_seconds: How long merges may go on before disks are measured.
        in_flight: Requests at once for logs and traces. Metrics have as many as one sweep over the series, 10.
        many_series: How many series the runs "new series" and "1M series" have; a multiple of 1,000.
        work: Where data folders are made; None: where the system keeps temporary files.
    """

    base_ns: int
    repeats: int = 3
    seconds: float = 10.0
    latency_seconds: float = 10.0
    warm_up_seconds: float = 3.0
    merge_seconds: float = 60.0
    in_flight: int = 16
    many_series: int = _MANY_SERIES
    work: Path | None = None


def quick(options: Options) -> Options:
    """So short that it shows whether everything works, and nothing else."""
    return Options(options.base_ns, 1, 1.0, 1.0, 0.5, 0.0, 4, 20_000, options.work)


def run_ingestion(
    targets: Sequence[Target], signals: Sequence[str], options: Options, report: Callable[[Run], None]
) -> list[Run]:
    """Runs each signal on each target that takes it, as often as there are repeats.

    Args:
        targets: Not started. What each is given is the same bytes.
        signals: Some of "metrics", "logs", "traces", "new series", "1M series" and "calls"; the last three are metrics.
        options: How runs go.
        report: Called after each run.
    """
    runs = []
    for signal in signals:
        able = [target for target in targets if _sent(signal) in target.signals]
        series = options.many_series if signal in (NEW_SERIES, MANY_SERIES) else _SERIES
        if not able:
            continue
        division = cores_of_calls() if signal == CALLS else _TOGETHER
        sent = CALLS if signal == CALLS else _sent(signal)
        with ExitStack() as stack:
            stack.enter_context(kept_to(division.generator))
            load = stack.enter_context(LoadGenerator(sent, options.base_ns, series, division.generators))
            other = None
            if signal == NEW_SERIES:
                other = stack.enter_context(LoadGenerator(CALLS, options.base_ns, processes=1))
            for repeat in range(options.repeats):
                # Another one begins each time: the first of a round has the quietest disk.
                for target in able[repeat % len(able) :] + able[: repeat % len(able)]:
                    measured = IngestRun(target, _plan(signal, options, division), load, repeat, options.work, other)
                    run = _run(measured, target, signal)
                    runs.append(run)
                    report(run)
    return runs


def cores_of_calls() -> Division:
    """Who has which cores in the part "calls"."""
    return divided(os.sched_getaffinity(0), processes.cores())


def _sent(signal: str) -> str:
    return signal if signal in SIGNALS else "metrics"


def _plan(signal: str, options: Options, division: Division) -> Plan:
    sweep = payloads("metrics", options.base_ns, options.many_series).period
    if signal == NEW_SERIES:
        return Plan(
            "metrics",
            _SWEEP_SECONDS,
            0.0,
            0.0,
            merge_seconds=options.merge_seconds,
            requests=sweep,
            alone_seconds=options.latency_seconds,
        )
    if signal == MANY_SERIES:
        # What is measured are series that are known.
        times = (options.seconds, options.latency_seconds, _SWEEP_SECONDS)
        return Plan("metrics", *times, merge_seconds=options.merge_seconds, warm_up_requests=sweep)
    if signal == CALLS:
        times = (options.seconds, options.latency_seconds, options.warm_up_seconds)
        return Plan(
            "metrics",
            *times,
            _CALLS_IN_FLIGHT,
            merge_seconds=0.0,
            latency_rate=_CALLS_A_SECOND,
            server_cores=division.server,
        )
    in_flight = payloads("metrics", options.base_ns, _SERIES).period if signal == "metrics" else options.in_flight
    return Plan(
        signal,
        options.seconds,
        options.latency_seconds,
        options.warm_up_seconds,
        in_flight,
        merge_seconds=options.merge_seconds,
    )


def _run(measured: IngestRun, target: Target, signal: str) -> Run:
    measured.run.signal = signal
    try:
        run = measured.measure()
    except (TargetError, ConnectionError, OSError) as error:
        run = measured.run
        run.faults.append(f"did not run: {error}")
    if run.faults and (output := getattr(target, "output", None)):
        run.output = output()
    return run
