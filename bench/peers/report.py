"""What `python -m bench.peers run` adds to the report of the benchmarks: what was lost to kills, and questions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import goals
from bench.peers.kill import Killed
from bench.peers.questions import Answered
from bench.report import number, spread_text
from bench.report_html import page
from bench.results import Results, Spread, spread

OURS = "AIRIS"
_KILLED = "SIGKILL under load: acknowledged items that are gone after a restart"
_KILLED_HEADER = ("signal", "target", "acknowledged", "lost", "doubled", "of what was acknowledged", "back after")

_ASKED = "Questions about the same data, asked in turn"
_ASKED_HEADER = ("question", "target", "p50 ms", "p95 ms", "ours: p50", "found")


@dataclass
class PeerResults:
    """Everything of one run.

    Attributes:
        results: Of ingestion.
        kills: In the order in which they were measured.
        questions: One for each question and target.
    """

    results: Results
    kills: list[Killed] = field(default_factory=list)
    questions: list[Answered] = field(default_factory=list)

    def faults(self) -> list[str]:
        """What failed. That a peer lost something when it was killed did not."""
        return [fault for _, fault in self._faults()]

    def own_faults(self) -> list[str]:
        """What of that is ours."""
        return [fault for target, fault in self._faults() if target == OURS]

    def _faults(self) -> Iterator[tuple[str, str]]:
        for run in self.results.runs:
            yield from ((run.target, fault) for fault in run.fault_lines())
        for killed in self.kills:
            if killed.fault or (killed.target == OURS and (killed.lost or killed.doubled)):
                fault = killed.fault or f"{killed.lost} acknowledged items are lost, {killed.doubled} doubled"
                yield killed.target, f"{killed.signal}, {killed.target}, killed: {fault}"
        for each in self.questions:
            if each.fault:
                yield each.target, f"{each.question}, {each.target}: {each.fault}"


def kill_line(killed: Killed) -> str:
    """One line for a kill that was just measured."""
    if killed.fault:
        return f"{killed.signal:11} {killed.target:24} FAILED: {killed.fault}"
    return (
        f"{killed.signal:11} {killed.target:24} killed: {killed.acknowledged} acknowledged, {killed.stored} stored, "
        f"{killed.lost} lost, {killed.doubled} doubled, up to {killed.in_flight} without an answer, "
        f"back after {killed.restart_seconds:.1f} s"
    )


def kill_rows(kills: Iterable[Killed]) -> list[tuple[str, ...]]:
    """One row for each signal and target, medians and spreads over its kills."""
    groups: dict[tuple[str, str], list[Killed]] = {}
    for killed in kills:
        groups.setdefault((killed.signal, killed.target), []).append(killed)
    rows: list[tuple[str, ...]] = []
    for (signal, target), group in groups.items():
        known = [killed for killed in group if not killed.fault]
        share = spread(killed.lost / max(1, killed.acknowledged) for killed in known)
        rows.append(
            (
                signal,
                target,
                spread_text(spread(killed.acknowledged for killed in known)),
                spread_text(spread(killed.lost for killed in known)),
                spread_text(spread(killed.doubled for killed in known)),
                _percent(share) if known else "did not run",
                f"{number(spread(killed.restart_seconds for killed in known).median)} s",
            )
        )
    return rows


def _percent(share: Spread) -> str:
    return f"{number(share.median * 100)} %"


def question_line(each: Answered) -> str:
    """One line for a question that was just measured."""
    if each.fault:
        return f"{each.question:36} {each.target:24} FAILED: {each.fault}"
    return (
        f"{each.question:36} {each.target:24} p50 {each.p50_ms:.1f}, p95 {each.p95_ms:.1f} ms, {each.answers:g} found"
    )


def question_rows(questions: Iterable[Answered]) -> list[tuple[str, ...]]:
    """One row for each question and target."""
    every = list(questions)
    own = {each.question: each.p50_ms for each in every if each.target == OURS}
    return [
        (
            each.question,
            each.target,
            number(each.p50_ms),
            number(each.p95_ms),
            f"{number(own.get(each.question, math.nan) / each.p50_ms)}×",
            number(each.answers),
        )
        for each in every
    ]


def _tables(measured: PeerResults) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    if measured.kills:
        yield _KILLED, _KILLED_HEADER, kill_rows(measured.kills)
    if measured.questions:
        yield _ASKED, _ASKED_HEADER, question_rows(measured.questions)


def print_more(measured: PeerResults, console: Console) -> None:
    """Prints the tables of kills and of questions, and what failed there."""
    for title, header, rows in _tables(measured):
        table = Table(title=title, title_justify="left")
        for at, name in enumerate(header):
            table.add_column(name, justify="left" if at < 2 else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for fault in measured.faults()[len(measured.results.all_faults()) :]:
        console.print("FAILED", fault, style="red", markup=False)


def write(measured: PeerResults, folder: Path) -> None:
    """Writes `results.json` and `results.html`; after each part, so that a run that is broken off has what it has."""
    outcomes = [{**asdict(each), "verdict": each.verdict} for each in goals.outcomes(measured.results)]
    file = folder / "results.json"
    measured.results.write(file, outcomes)
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["kills"] = [{**asdict(killed), "lost": killed.lost, "doubled": killed.doubled} for killed in measured.kills]
    # JSON has no word for what is not a number.
    tree["peer_questions"] = [
        {**asdict(each), "p50_ms": _known(each.p50_ms), "p95_ms": _known(each.p95_ms)} for each in measured.questions
    ]
    file.write_text(json.dumps(tree, indent=1, ensure_ascii=False), encoding="utf-8")
    html = page(measured.results) + "".join(_section(*table) for table in _tables(measured))
    (folder / "results.html").write_text(html, encoding="utf-8")


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _section(title: str, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if at > 1 else ''}>{escape(cell)}</td>" for at, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"
