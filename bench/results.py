"""What the parts of a benchmark measured, as medians and spreads, and as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.ingest import Run

NEW_SERIES, MANY_SERIES, CALLS = "new series", "1M series", "calls"
"""What is measured beside the signals; all are metrics."""

OURS = "AIRIS"
WITH_FRONTENDS = f"{OURS} with frontends"
"""The target that goals are about."""


@dataclass(frozen=True)
class Spread:
    """Of repeats: the median, the lowest, the highest, and how many there are; not a number if there are none."""

    median: float
    lowest: float
    highest: float
    count: int


def spread(values: Iterable[float]) -> Spread:
    """Of those values that are numbers."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan, math.nan, 0)
    return Spread(statistics.median(known), min(known), max(known), len(known))


def ratio(ours: Spread | None, theirs: Spread) -> float:
    """How many times theirs ours is."""
    return ours.median / theirs.median if ours is not None and theirs.median else math.nan


NOT_MEASURED = spread(())


@dataclass(frozen=True)
class Row:
    """The repeats of one signal and one target; `faults` are of all, figures of those that did not fail."""

    signal: str
    target: str
    per_second: Spread
    per_cpu_second: Spread
    readable_per_second: Spread
    peak_refused: Spread
    half_peak_refused: Spread
    half_p50_ms: Spread
    half_p95_ms: Spread
    half_p99_ms: Spread
    peak_p95_ms: Spread
    bytes_per_item: Spread
    files_per_item: Spread
    memory_bytes: Spread
    peak_memory_bytes: Spread
    neighbour_alone_p95_ms: Spread
    neighbour_beside_p95_ms: Spread
    foreign_cores: Spread
    generator_busy: Spread
    faults: tuple[str, ...]


@dataclass
class Results:
    """Everything of one `python -m bench`.

    Attributes:
        environment: What it ran on.
        options: How it was called.
        runs: Of ingestion, in the order in which they ran.
        start: Of the part "start": seconds until ready, idle memory and CPU.
        journal: Of the part "journal".
        queries: Of the part "queries", one for each question and place.
        faults: Parts that could not be run, each with its reason.
    """

    environment: dict[str, str]
    options: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    start: list[dict[str, float]] = field(default_factory=list)
    journal: dict[str, float] = field(default_factory=dict)
    queries: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """One for each signal and target, in the order in which they first came, signal by signal."""
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.signal, run.target), []).append(run)
        signals = list(dict.fromkeys(run.signal for run in self.runs))
        ordered = sorted(groups, key=lambda group: signals.index(group[0]))
        return [_row(*group, groups[group]) for group in ordered]

    def row(self, signal: str, target: str) -> Row | None:
        """The row of a signal and a target, if there is one."""
        return next((row for row in self.rows() if (row.signal, row.target) == (signal, target)), None)

    def all_faults(self) -> list[str]:
        """Whatever failed; empty: nothing was lost or doubled, and everything ran."""
        return [fault for run in self.runs for fault in run.fault_lines()] + self.faults

    def ratios(self, row: Row, ours: str = OURS) -> dict[str, float]:
        """How many times a row's figures those of the target that is called `ours` are, by the wall and by CPU."""
        own = self.row(row.signal, ours)
        return {
            "ours_wall": ratio(own.per_second if own else None, row.per_second),
            "ours_cpu": ratio(own.per_cpu_second if own else None, row.per_cpu_second),
        }

    def write(self, path: Path, goals: Iterable[Mapping[str, Any]]) -> None:
        """Writes everything as JSON."""
        rows = [{**asdict(row), **self.ratios(row)} for row in self.rows()]
        tree = {**asdict(self), "rows": rows, "goals": list(goals)}
        write_json(path, tree)


def _row(signal: str, target: str, runs: list[Run]) -> Row:
    sound = [run for run in runs if not run.faults]

    def half(name: str) -> Spread:
        return spread(run.half_peak_ms.get(name, math.nan) for run in sound)

    def neighbour(name: str) -> Spread:
        return spread(run.neighbour_p95_ms.get(name, math.nan) for run in sound)

    return Row(
        signal=signal,
        target=target,
        per_second=spread(run.per_second for run in sound),
        per_cpu_second=spread(run.per_cpu_second for run in sound),
        readable_per_second=spread(run.readable_per_second for run in sound),
        peak_refused=spread(run.peak_refused for run in sound),
        half_peak_refused=spread(run.half_peak_refused for run in sound),
        half_p50_ms=half("p50"),
        half_p95_ms=half("p95"),
        half_p99_ms=half("p99"),
        peak_p95_ms=spread(run.acknowledgement_ms.get("p95", math.nan) for run in sound),
        bytes_per_item=spread(run.bytes_per_item for run in sound),
        files_per_item=spread(run.files_per_item for run in sound),
        memory_bytes=spread(run.memory_bytes for run in sound),
        peak_memory_bytes=spread(run.peak_memory_bytes for run in sound),
        neighbour_alone_p95_ms=neighbour("alone"),
        neighbour_beside_p95_ms=neighbour("beside"),
        foreign_cores=spread(run.foreign_cores for run in sound),
        generator_busy=spread(run.generator_busy for run in sound),
        faults=tuple(fault for run in runs for fault in run.faults),
    )


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes figures, those that are not finite as null, and makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(tree), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _finite(tree: Any) -> Any:
    """What can be written as JSON."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    if isinstance(tree, Path):
        return str(tree)
    # JSON has no word for it.
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
