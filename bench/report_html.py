"""The figures as one HTML page that needs nothing else: tables, and bars drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from bench.goals import Outcome, outcomes
from bench.report import number, ratio, share_text, spread_text
from bench.results import Results, Row, Spread

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
_NAME_WIDTH, _BAR_WIDTH, _VALUE_WIDTH, _ROW_HEIGHT = 210, 420, 190, 26
_CHARTS = (
    ("per_cpu_second", "Items per server CPU-second"),
    ("per_second", "Items a second, wall clock"),
    ("half_p95_ms", "Acknowledgement p95 at half the peak, ms"),
    ("bytes_per_item", "Bytes on disk an item"),
)


def page(results: Results, ours: str = "AIRIS") -> str:
    """The page."""
    found = outcomes(results, ours)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>AIRIS benchmarks</title><style>{_STYLE}</style><h1>AIRIS benchmarks</h1>",
        *(f"<p class=failed>FAILED: {escape(fault)}</p>" for fault in results.all_faults()),
        "<h2>Goals</h2>",
        _table(("what", "goal", "ours", ""), (_goal(each) for each in found), numbers=(1, 2)),
    ]
    for signal in dict.fromkeys(row.signal for row in results.rows()):
        rows = [row for row in results.rows() if row.signal == signal]
        parts += [f"<h2>{escape(signal.capitalize())}</h2>", *_charts(rows, found, ours), _ingestion(rows, ours)]
    if results.journal:
        pairs = ((name.replace("_", " "), number(value)) for name, value in results.journal.items())
        parts += ["<h2>Journal</h2>", _table(("what", ""), pairs, numbers=(1,))]
    if results.queries:
        header = ("question", "place", "p50 ms", "p95 ms", "goal ms")
        cells = (
            (each["question"], each["place"], number(each["p50_ms"]), number(each["p95_ms"]), number(each["goal_ms"]))
            for each in results.queries
        )
        parts += ["<h2>Queries</h2>", _table(header, cells, numbers=(2, 3, 4))]
    parts += ["<h2>Environment</h2>", _table(("", ""), results.environment.items())]
    return "\n".join(parts)


def _goal(each: Outcome) -> tuple[str, ...]:
    bound = f"{'≥' if each.at_least else '≤'} {number(each.goal)} {each.unit}"
    return each.what, bound, number(each.figure), each.verdict


def _ingestion(rows: Sequence[Row], ours: str) -> str:
    own = next((row for row in rows if row.target == ours), None)
    header = (
        "target", "items/s", "until readable", "items per CPU-s", "ours: wall", "ours: CPU", "half peak p50", "p95",
        "p99 ms", "refused: peak", "half", "B/item", "lost, doubled",
    )  # fmt: skip
    cells = (
        (
            row.target,
            spread_text(row.per_second),
            number(row.readable_per_second.median),
            spread_text(row.per_cpu_second),
            f"{number(ratio(own.per_second if own else None, row.per_second))}×",
            f"{number(ratio(own.per_cpu_second if own else None, row.per_cpu_second))}×",
            number(row.half_p50_ms.median),
            number(row.half_p95_ms.median),
            number(row.half_p99_ms.median),
            share_text(row.peak_refused),
            share_text(row.half_peak_refused),
            spread_text(row.bytes_per_item),
            "; ".join(row.faults) or "0",
        )
        for row in rows
    )
    return _table(header, cells, numbers=range(1, 13))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
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


def _charts(rows: Sequence[Row], found: Sequence[Outcome], ours: str) -> Iterable[str]:
    for name, title in _CHARTS:
        bars = [(row.target, getattr(row, name)) for row in rows if not math.isnan(getattr(row, name).median)]
        if bars:
            yield f"<h3>{title}</h3>{_bars(bars, ours, _bound(rows[0].signal, name, found))}"


_GOAL_WORDS = {
    "per_cpu_second": "per server CPU-second",
    "half_p95_ms": "p95 at half",
    "bytes_per_item": "bytes on disk",
}


def _bound(signal: str, name: str, found: Sequence[Outcome]) -> float:
    words = _GOAL_WORDS.get(name)
    goals = [each.goal for each in found if words and each.what.startswith(f"{signal}:") and words in each.what]
    return max(goals, default=math.nan)


def _bars(bars: Sequence[tuple[str, Spread]], ours: str, goal: float) -> str:
    most = max([spread.highest for _, spread in bars] + ([] if math.isnan(goal) else [goal])) or 1.0
    width = _NAME_WIDTH + _BAR_WIDTH + _VALUE_WIDTH
    height = _ROW_HEIGHT * len(bars) + 4

    def x(value: float) -> float:
        return _NAME_WIDTH + value / most * _BAR_WIDTH

    drawn = []
    for place, (name, spread) in enumerate(bars):
        top = place * _ROW_HEIGHT + 4
        middle = top + (_ROW_HEIGHT - 6) / 2
        kind = "bar ours" if name == ours else "bar"
        drawn.append(
            f'<text x="{_NAME_WIDTH - 8}" y="{middle + 5}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{kind}" x="{_NAME_WIDTH}" y="{top}" width="{x(spread.median) - _NAME_WIDTH:.1f}" '
            f'height="{_ROW_HEIGHT - 6}"/>'
            f'<line class="whisker" x1="{x(spread.lowest):.1f}" x2="{x(spread.highest):.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'<text x="{x(spread.highest) + 8:.1f}" y="{middle + 5}">{escape(spread_text(spread))}</text>'
        )
    if not math.isnan(goal):
        drawn.append(f'<line class="goal" x1="{x(goal):.1f}" x2="{x(goal):.1f}" y1="0" y2="{height}"/>')
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(drawn)}</svg>'
