"""The figures on the terminal: one table of ingestion, and the goals beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from bench.goals import Outcome, outcomes
from bench.ingest import Run
from bench.results import OURS, Results, Row, Spread

BUSY_CORES = 0.2
"""Other programs took more than so many cores on average: the figures of that run are too low."""
BUSY_GENERATOR = 0.9
"""The load generator's processes were busy for more than this share of a peak: the server could have taken more."""


def number(value: float) -> str:
    """With about three digits: "1.23M", "456k", "78.9"."""
    if math.isnan(value):
        return "–"
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 1000 * size else f"{value / size:.0f}{unit}"
    return f"{value:.3g}"


def spread_text(spread: Spread) -> str:
    """ "456k (440k to 470k)"."""
    if spread.count < 2:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.lowest)} to {number(spread.highest)})"


def share_text(share: Spread) -> str:
    """The worst of all repeats: "0 %", "0.12 %"."""
    return f"{number(100 * share.highest)} %"


def run_line(run: Run) -> str:
    """One line for a run that has just ended."""
    if run.faults:
        return f"{run.signal:11} {run.target:24} FAILED: {'; '.join(run.faults)}"
    half = ", ".join(f"{name} {value:.1f}" for name, value in run.half_peak_ms.items())
    busy = f"; others took {run.foreign_cores:.1f} cores" if run.foreign_cores > BUSY_CORES else ""
    return (
        f"{run.signal:11} {run.target:24} {number(run.per_second):>6}/s, {number(run.per_cpu_second):>6} a CPU-second, "
        f"half the peak {half or '–'} ms, {number(run.bytes_per_item)} B an item, "
        f"all files {number(run.files_per_item)}, "
        f"{run.acknowledged} acknowledged, {run.refused} refused, {run.stored} stored{busy}"
    )


def print_report(results: Results, console: Console, more: Iterable[Outcome] = (), ours: str = OURS) -> None:
    """Prints everything, and beside the goals of `results` some more."""
    for what, value in results.environment.items():
        console.print(f"{what:>16}  {value}")
    if results.runs:
        console.print(_ingestion(results, ours))
    if results.journal:
        figures = ", ".join(f"{name} {number(value)}" for name, value in results.journal.items())
        console.print(f"journal: {figures}")
    console.print(_goals([*outcomes(results, ours), *more]))
    if any(row.foreign_cores.highest > BUSY_CORES for row in results.rows()):
        console.print("[yellow]Other programs kept the machine busy: figures by the second are too low.[/]")
    if any(row.generator_busy.highest > BUSY_GENERATOR for row in results.rows()):
        console.print(
            "[yellow]The load generator was busy all the time of some peaks: those servers could take more.[/]"
        )
    for fault in results.all_faults():
        console.print(f"[bold red]FAILED[/] {fault}")


def _ingestion(results: Results, ours: str) -> Table:
    table = Table(title="Ingestion: medians, lowest to highest", title_justify="left")
    measured = (
        *("items/s", "until readable", "items per CPU-s", "ours: wall", "ours: CPU", "half peak p95", "p99 ms"),
        *("refused: peak, half", "B/item", "all files"),
    )
    for name in ("signal", "target"):
        table.add_column(name)
    for name in (*measured, "lost, doubled"):
        table.add_column(name, justify="right")
    for row in results.rows():
        table.add_row(*_cells(row, results.ratios(row, ours)))
    return table


def _cells(row: Row, ratios: Mapping[str, float]) -> list[str]:
    return [
        row.signal,
        row.target,
        spread_text(row.per_second),
        number(row.readable_per_second.median),
        spread_text(row.per_cpu_second),
        f"{number(ratios['ours_wall'])}×",
        f"{number(ratios['ours_cpu'])}×",
        spread_text(row.half_p95_ms),
        spread_text(row.half_p99_ms),
        f"{share_text(row.peak_refused)}, {share_text(row.half_peak_refused)}",
        spread_text(row.bytes_per_item),
        spread_text(row.files_per_item),
        "[red]FAILED[/]" if row.faults else "0",
    ]


def _goals(found: list[Outcome]) -> Table:
    table = Table(title="Goals", title_justify="left")
    for name in ("what", "goal", "ours", ""):
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for each in found:
        color = "green" if each.reached else "yellow" if math.isnan(each.figure) else "red"
        bound = f"{'≥' if each.at_least else '≤'} {number(each.goal)} {each.unit}"
        table.add_row(each.what, bound, number(each.figure), f"[{color}]{each.verdict}[/]")
    return table
