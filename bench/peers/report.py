"""What `python -m bench.peers run` adds to the report of the benchmarks: what was lost to kills, and questions."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import goals
from bench.peers.kill import Killed
from bench.peers.questions import GOALS_MS, Answered
from bench.report import number, print_report, spread_text
from bench.report_html import Bar, chart, page, table
from bench.results import OURS, Results, Spread, ratio, spread, write_json

_KILLED = "SIGKILL under load: acknowledged items that are gone after a restart"
_KILLED_HEADER = ("signal", "target", "acknowledged", "lost", "doubled", "of what was acknowledged", "back after")

_ASKED = "Questions about the same data, asked in turn"
_ASKED_HEADER = ("question", "target", "p50 ms", "p95 ms", "server CPU ms", "ours: p50", "ours: CPU", "found")


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

    def measured(self) -> set[str]:
        """Who was measured: of which a run, a kill or a question came to an end without a fault."""
        sound = {run.target for run in self.results.runs if not run.faults}
        return sound | {each.target for each in (*self.kills, *self.questions) if not each.fault}

    def outcomes(self) -> list[goals.Outcome]:
        """Goals of the questions: ours beside the bound, and beside the fastest peer of this run."""
        # Less data than all is no proof of what is promised of all.
        of_all = self.results.options.get("question_share", 1.0) == 1.0
        return list(_question_outcomes(self.questions, of_all))

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
    return [
        (
            each.question,
            each.target,
            _with_range(each.p50_ms, each.parts_ms),
            number(each.p95_ms),
            spread_text(each.cpu_ms),
            *(f"{number(times)}×" for times in question_ratios(each, every).values()),
            number(each.answers),
        )
        for each in every
    ]


def _with_range(value: float, parts: Spread) -> str:
    return spread_text(Spread(value, parts.lowest, parts.highest, parts.count))


def question_ratios(each: Answered, every: Iterable[Answered]) -> Mapping[str, float]:
    """How many times as long as this target ours took for its question, by the wall and by CPU."""
    own = next((other for other in every if (other.question, other.target) == (each.question, OURS)), None)
    return {
        "ours_wall": own.p50_ms / each.p50_ms if own and each.p50_ms else math.nan,
        "ours_cpu": ratio(own.cpu_ms if own else None, each.cpu_ms),
    }


def _question_outcomes(questions: Sequence[Answered], of_all: bool) -> Iterator[goals.Outcome]:
    for own in questions:
        if own.target != OURS:
            continue
        what = f"query beside peers: {own.question}, p50"
        p50 = math.nan if own.fault else own.p50_ms
        if own.question in GOALS_MS:
            yield goals.Outcome(what, "ms", GOALS_MS[own.question], False, p50 if of_all else math.nan)
        peers = [each for each in questions if each.question == own.question and each.target != OURS]
        if known := [each for each in peers if not (each.fault or math.isnan(each.p50_ms))]:
            best = min(known, key=lambda each: each.p50_ms)
            share = p50 / best.p50_ms
            yield goals.Outcome(f"{what}, of that of {best.target}", "times", 1.0, False, share)


def _kill_charts(kills: Sequence[Killed]) -> Iterator[str]:
    for signal in dict.fromkeys(killed.signal for killed in kills):
        lost: dict[str, list[int]] = {}
        for killed in kills:
            if killed.signal == signal and not killed.fault:
                lost.setdefault(killed.target, []).append(killed.lost)
        bars = [Bar(target, spread(counts), target == OURS, 0.0) for target, counts in lost.items()]
        yield chart(f"{signal}: acknowledged items that are gone", bars)


def _question_charts(questions: Sequence[Answered]) -> Iterator[str]:
    for question in dict.fromkeys(each.question for each in questions):
        every = [each for each in questions if each.question == question]
        goal = GOALS_MS.get(question, math.nan)
        yield chart(
            f"{question}: p50, ms", [Bar(each.target, each.parts_ms, each.target == OURS, goal) for each in every]
        )
        yield chart(
            f"{question}: server CPU, ms", [Bar(each.target, each.cpu_ms, each.target == OURS) for each in every]
        )


@dataclass(frozen=True)
class _Section:
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    charts: list[str]

    def html(self) -> str:
        numbers = range(2, len(self.header))
        return "\n".join([f"<h2>{escape(self.title)}</h2>", *self.charts, table(self.header, self.rows, numbers)])


def _sections(measured: PeerResults) -> Iterator[_Section]:
    kills, questions = measured.kills, measured.questions
    if kills:
        yield _Section(_KILLED, _KILLED_HEADER, kill_rows(kills), list(_kill_charts(kills)))
    if questions:
        yield _Section(_ASKED, _ASKED_HEADER, question_rows(questions), list(_question_charts(questions)))


def print_all(measured: PeerResults, console: Console) -> None:
    """Prints the report of the benchmarks, the tables of kills and of questions, and what failed there."""
    print_report(measured.results, console, measured.outcomes())
    for section in _sections(measured):
        shown = Table(title=section.title, title_justify="left")
        for at, name in enumerate(section.header):
            shown.add_column(name, justify="left" if at < 2 else "right")
        for row in section.rows:
            shown.add_row(*row)
        console.print(shown)
    for fault in measured.faults()[len(measured.results.all_faults()) :]:
        console.print("FAILED", fault, style="red", markup=False)


def write(measured: PeerResults, folder: Path) -> None:
    """Writes `results.json` and `results.html`; after each part, so that a run that is broken off has what it has."""
    more = measured.outcomes()
    outcomes = [{**asdict(each), "verdict": each.verdict} for each in [*goals.outcomes(measured.results), *more]]
    file = folder / "results.json"
    measured.results.write(file, outcomes)
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["kills"] = [{**asdict(killed), "lost": killed.lost, "doubled": killed.doubled} for killed in measured.kills]
    asked = measured.questions
    tree["peer_questions"] = [{**asdict(each), **question_ratios(each, asked)} for each in asked]
    write_json(file, tree)
    html = page(measured.results, more) + "".join(section.html() for section in _sections(measured))
    (folder / "results.html").write_text(html, encoding="utf-8")
