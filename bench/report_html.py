"""The figures as one HTML page that needs nothing else: tables, and bars drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench.goals import START_GOALS, Outcome, outcomes
from bench.report import number, share_text, spread_text
from bench.results import OURS, Results, Row, Spread, spread

_STYLE = """
:root { color-scheme: light dark; --bar: #4472c4; --ours: #c55a11; --line: #8886; --good: #2e7d32; --bad: #c62828; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } td, th { padding: .2rem .7rem; text-align: left; }
tr + tr { border-top: 1px solid var(--line); } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.reached { color: var(--good); } .missed, .failed { color: var(--bad); }
svg { width: 100%; max-width: 56rem; height: auto; } svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.bar { fill: var(--bar); } .bar.ours { fill: var(--ours); } .whisker { stroke: currentColor; stroke-width: 1.5; }
.goal { stroke: var(--good); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""
_NAME_WIDTH, _BAR_WIDTH, _VALUE_WIDTH, _ROW_HEIGHT = 250, 380, 190, 26
_CHARTS = (
    ("per_cpu_second", "Items per server CPU-second"),
    ("per_second", "Items a second, wall clock"),
    ("half_p95_ms", "Acknowledgement p95 at half the peak, ms"),
    ("bytes_per_item", "Bytes on disk an item"),
)


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: it ends at the median, a line reaches from the lowest to the highest.

    Attributes:
        name: Beside it.
        spread: What it shows.
        own: Whether it is ours.
        goal: Where a mark is drawn; not a number: nowhere.
    """

    name: str
    spread: Spread
    own: bool
    goal: float = math.nan


def page(results: Results, more: Iterable[Outcome] = (), ours: str = OURS) -> str:
    """The page; `more` goals stand beside those of `results`."""
    found = [*outcomes(results, ours), *more]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>AIRIS benchmarks</title><style>{_STYLE}</style><h1>AIRIS benchmarks</h1>",
        *(f"<p class=failed>FAILED: {escape(fault)}</p>" for fault in results.all_faults()),
        "<h2>Goals</h2>",
        table(("what", "goal", "ours", ""), (_goal(each) for each in found), numbers=(1, 2)),
    ]
    for signal in dict.fromkeys(row.signal for row in results.rows()):
        rows = [row for row in results.rows() if row.signal == signal]
        parts += [
            f"<h2>{escape(signal.capitalize())}</h2>",
            *_charts(rows, found, ours),
            _ingestion(results, rows, ours),
        ]
    if results.start:
        parts += ["<h2>Start and idle</h2>", *_start_charts(results, ours)]
    if results.journal:
        pairs = ((name.replace("_", " "), number(value)) for name, value in results.journal.items())
        parts += ["<h2>Journal</h2>", table(("what", ""), pairs, numbers=(1,))]
    if results.queries:
        header = ("question", "place", "p50 ms", "p95 ms", "goal ms")
        cells = (
            (each["question"], each["place"], number(each["p50_ms"]), number(each["p95_ms"]), number(each["goal_ms"]))
            for each in results.queries
        )
        parts += ["<h2>Queries</h2>", *_query_charts(results), table(header, cells, numbers=(2, 3, 4))]
    parts += ["<h2>Environment</h2>", table(("", ""), results.environment.items())]
    return "\n".join(parts)


def _goal(each: Outcome) -> tuple[str, ...]:
    bound = f"{'≥' if each.at_least else '≤'} {number(each.goal)} {each.unit}"
    return each.what, bound, number(each.figure), each.verdict


def _ingestion(results: Results, rows: Sequence[Row], ours: str) -> str:
    header = (
        "target", "items/s", "until readable", "items per CPU-s", "ours: wall", "ours: CPU", "half peak p50", "p95",
        "p99 ms", "refused: peak", "half", "B/item", "all files", "lost, doubled",
    )  # fmt: skip
    cells = (
        (
            row.target,
            spread_text(row.per_second),
            number(row.readable_per_second.median),
            spread_text(row.per_cpu_second),
            *(f"{number(times)}×" for times in results.ratios(row, ours).values()),
            number(row.half_p50_ms.median),
            number(row.half_p95_ms.median),
            number(row.half_p99_ms.median),
            share_text(row.peak_refused),
            share_text(row.half_peak_refused),
            spread_text(row.bytes_per_item),
            spread_text(row.files_per_item),
            "; ".join(row.faults) or "0",
        )
        for row in rows
    )
    return table(header, cells, numbers=range(1, 14))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table; the columns in `numbers` stand to the right."""
    right = set(numbers)

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if at in right else _verdict_class(cell)}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{cells(header, 'th')}</tr>{body}</table>"


def _verdict_class(cell: str) -> str:
    if cell == "reached":
        return " class=reached"
    return " class=missed" if cell.startswith("missed") else ""


def _charts(rows: Sequence[Row], found: Sequence[Outcome], ours: str) -> Iterator[str]:
    for name, title in _CHARTS:
        goal = _bound(rows[0].signal, name, found)
        yield chart(title, [Bar(row.target, getattr(row, name), row.target == ours, goal) for row in rows])


def _start_charts(results: Results, ours: str) -> Iterator[str]:
    for unit in dict.fromkeys(goal.unit for goal in START_GOALS):
        bars = [
            Bar(goal.what, spread(start[goal.name] / goal.per_unit for start in results.start), True, goal.goal)
            for goal in START_GOALS
            if goal.unit == unit
        ]
        yield chart(f"{ours}, {unit}", bars)


def _query_charts(results: Results) -> Iterator[str]:
    for place in dict.fromkeys(each["place"] for each in results.queries):
        bars = [
            # One figure, and not the median of several: the line reaches from it to p95.
            Bar(
                each["question"],
                Spread(each["p50_ms"], each["p50_ms"], each["p95_ms"], 1),
                True,
                each["goal_ms"] if place == "grpc" else math.nan,
            )
            for each in results.queries
            if each["place"] == place
        ]
        yield chart(f"{place}: p50 in ms, and a line to p95", bars)


_GOAL_WORDS = {
    "per_cpu_second": "per server CPU-second",
    "half_p95_ms": "p95 at half",
    "bytes_per_item": "bytes on disk",
}


def _bound(signal: str, name: str, found: Sequence[Outcome]) -> float:
    words = _GOAL_WORDS.get(name)
    goals = [each.goal for each in found if words and each.what.startswith(f"{signal}:") and words in each.what]
    return max(goals, default=math.nan)


def chart(title: str, bars: Iterable[Bar]) -> str:
    """A heading and its bars; nothing if none of them is known."""
    known = [bar for bar in bars if not math.isnan(bar.spread.median)]
    return f"<h3>{escape(title)}</h3>{_drawn(known)}" if known else ""


def _drawn(bars: Sequence[Bar]) -> str:
    goals = [bar.goal for bar in bars if not math.isnan(bar.goal)]
    most = max([bar.spread.highest for bar in bars] + goals) or 1.0
    width = _NAME_WIDTH + _BAR_WIDTH + _VALUE_WIDTH
    height = _ROW_HEIGHT * len(bars) + 4

    def x(value: float) -> float:
        return _NAME_WIDTH + value / most * _BAR_WIDTH

    drawn = []
    for place, bar in enumerate(bars):
        top = place * _ROW_HEIGHT + 4
        middle = top + (_ROW_HEIGHT - 6) / 2
        kind = "bar ours" if bar.own else "bar"
        shown = bar.spread
        drawn.append(
            f'<text x="{_NAME_WIDTH - 8}" y="{middle + 5}" text-anchor="end">{escape(bar.name)}</text>'
            f'<rect class="{kind}" x="{_NAME_WIDTH}" y="{top}" width="{x(shown.median) - _NAME_WIDTH:.1f}" '
            f'height="{_ROW_HEIGHT - 6}"/>'
            f'<line class="whisker" x1="{x(shown.lowest):.1f}" x2="{x(shown.highest):.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'<text x="{x(shown.highest) + 8:.1f}" y="{middle + 5}">{escape(spread_text(shown))}</text>'
        )
        if not math.isnan(bar.goal):
            at = f'x1="{x(bar.goal):.1f}" x2="{x(bar.goal):.1f}"'
            drawn.append(f'<line class="goal" {at} y1="{top - 4}" y2="{top + _ROW_HEIGHT}"/>')
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(drawn)}</svg>'
