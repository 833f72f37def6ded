"""The goals, and how far our figures are from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.results import CALLS, NEW_SERIES, OURS, WITH_FRONTENDS, Results

_MIB = 2**20
_IDLE_BYTES = 1.5 * 2**30


@dataclass(frozen=True)
class Outcome:
    """One goal.

    Attributes:
        what: For people.
        goal: The bound, in `unit`.
        at_least: Whether the figure must not be lower; otherwise it must not be higher.
        figure: Ours; not a number where it was not measured.
    """

    what: str
    unit: str
    goal: float
    at_least: bool
    figure: float

    @property
    def reached(self) -> bool:
        """Whether it was measured and is good enough."""
        return self.figure >= self.goal if self.at_least else self.figure <= self.goal

    @property
    def verdict(self) -> str:
        """ "reached", "missed by 12 %", or "not measured"."""
        if math.isnan(self.figure):
            return "not measured"
        if self.reached:
            return "reached"
        if self.at_least or self.figure < 2 * self.goal:
            return f"missed by {abs(self.figure / self.goal - 1) * 100:.0f} %"
        return f"missed: {self.figure / self.goal:.1f} times"


_PER_CPU_SECOND = {"metrics": (600_000, 1_000_000), "traces": (150_000,), "logs": (200_000,)}
_BYTES_PER_ITEM = {"metrics": 2.0, "traces": 40.0, "logs": 40.0}
_ITEMS = {"metrics": "points", "traces": "spans", "logs": "lines"}
# How many times the items per CPU-second of a peer, whose name begins so.
_PEERS = (
    ("metrics", "Prometheus", 1.0),
    ("metrics", "VictoriaMetrics", 1.0),
    ("traces", "Jaeger 2.13, memory", 1.0),
    ("traces", "Jaeger 2.13, badger", 10.0),
    ("logs", "VictoriaLogs", 1.0),
    ("logs", "Elasticsearch", 10.0),
)


@dataclass(frozen=True)
class StartGoal:
    """A goal of the part "start".

    Attributes:
        name: Of the figure in `Results.start`.
        what: For people.
        goal: The bound, in `unit`.
        per_unit: How much of the figure a unit is.
    """

    name: str
    what: str
    unit: str
    goal: float
    per_unit: float = 1.0


START_GOALS = (
    StartGoal("first_start_seconds", "start on a new folder until ready", "s", 6.0),
    StartGoal("start_seconds", "start on its data until ready", "s", 6.0),
    StartGoal("idle_memory_bytes", "idle memory (PSS)", "MiB", _IDLE_BYTES / _MIB, _MIB),
    StartGoal("idle_cpu_percent", "idle CPU", "% of a core", 3.0),
)


def outcomes(results: Results, ours: str = OURS) -> list[Outcome]:
    """Every goal of the parts that ran, beside the figure of the target that is called `ours`."""
    groups = (
        _of_ingestion(results, ours),
        _of_new_series(results, ours),
        _of_peers(results, ours),
        _of_calls(results, ours),
        _of_start(results),
        _of_queries(results),
    )
    return [outcome for group in groups for outcome in group]


def _of_ingestion(results: Results, ours: str) -> Iterator[Outcome]:
    rows = {row.signal: row for row in results.rows() if row.target == ours}

    def figure(signal: str, name: str) -> float:
        return getattr(rows[signal], name).median if signal in rows else math.nan

    for signal, bounds in _PER_CPU_SECOND.items():
        for bound in bounds:
            what = f"{signal}: {_ITEMS[signal]} per server CPU-second"
            yield Outcome(what, f"{_ITEMS[signal]}/s", bound, True, figure(signal, "per_cpu_second"))
    for signal in _PER_CPU_SECOND:
        for name, most in (("p95", 50.0), ("p99", 150.0)):
            what = f"{signal}: acknowledgement {name} at half the peak"
            yield Outcome(what, "ms", most, False, figure(signal, f"half_{name}_ms"))
    for signal in _PER_CPU_SECOND:
        refused = rows[signal].half_peak_refused.highest if signal in rows else math.nan
        yield Outcome(f"{signal}: refused or not answered at half the peak", "%", 0.1, False, 100 * refused)
    for signal, size in _BYTES_PER_ITEM.items():
        what = f"{signal}: bytes on disk for one of its {_ITEMS[signal]}"
        yield Outcome(what, "B", size, False, figure(signal, "bytes_per_item"))
    yield Outcome("a million new series in a row", "series/s", 200_000, True, figure(NEW_SERIES, "per_second"))


def _of_new_series(results: Results, ours: str) -> Iterator[Outcome]:
    row = results.row(NEW_SERIES, ours)
    if row is None:
        return
    # The only bound of memory that there is: what series cost must fit in what an idle platform leaves of it.
    most = row.peak_memory_bytes.highest / _MIB
    yield Outcome("new series: the most memory (PSS) while they come", "MiB", _IDLE_BYTES / _MIB, False, most)
    # As for everybody at half the peak, although new series come as fast as they are taken.
    for when, p95 in (("alone", row.neighbour_alone_p95_ms), ("while they come", row.neighbour_beside_p95_ms)):
        yield Outcome(f"new series: acknowledgement p95 of somebody else, {when}", "ms", 50.0, False, p95.median)


def _of_peers(results: Results, ours: str) -> Iterator[Outcome]:
    for signal, name, times in _PEERS:
        own = results.row(signal, ours)
        for row in results.rows():
            if own and row.signal == signal and row.target.startswith(name):
                theirs = row.per_cpu_second.median
                share = own.per_cpu_second.median / theirs if theirs else math.nan
                what = f"{signal}: {_ITEMS[signal]} per server CPU-second, of those of {row.target}"
                yield Outcome(what, "times", times, True, share)


def _of_calls(results: Results, ours: str) -> Iterator[Outcome]:
    envoy, direct, bare = (results.row(CALLS, name) for name in (ours, f"{ours} without Envoy", "bare grpc.aio"))
    fronted = results.row(CALLS, WITH_FRONTENDS)
    if not (envoy or direct or bare or fronted):
        return
    share = direct.per_cpu_second.median / bare.per_cpu_second.median if direct and bare else math.nan
    added = envoy.half_p50_ms.median - direct.half_p50_ms.median if envoy and direct else math.nan
    # Whichever way takes more of them.
    fastest = max((row for row in (envoy, fronted) if row), key=lambda row: row.per_second.median, default=None)
    calls, p95 = (fastest.per_second.median, fastest.peak_p95_ms.median) if fastest else (math.nan, math.nan)
    yield Outcome("calls of one point: per CPU-second, of a bare echo's", "of it", 0.75, True, share)
    yield Outcome("calls of one point through Envoy", "/s", 10_000, True, calls)
    yield Outcome("calls of one point through Envoy: p95 at the peak", "ms", 100.0, False, p95)
    yield Outcome("Envoy in front: added to the median", "ms", 0.5, False, added)


def _of_start(results: Results) -> Iterator[Outcome]:
    for each in START_GOALS if results.start else ():
        worst = max(start[each.name] for start in results.start)
        yield Outcome(each.what, each.unit, each.goal, False, worst / each.per_unit)


def _of_queries(results: Results) -> Iterator[Outcome]:
    for each in results.queries:
        if each["place"] == "grpc":
            # An empty answer proves nothing.
            p50 = each["p50_ms"] if each["items"] else math.nan
            yield Outcome(f"query: {each['question']}, p50", "ms", each["goal_ms"], False, p50)
