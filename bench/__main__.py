"""`make bench`, or `python -m bench`: measures our embedded platform, and whoever else is named, in one run.

Prints a table and writes `results.json` and `results.html`, a page that needs nothing else. Exits with 1 if an item was
lost or doubled, or something did not run.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import goals, startup
from bench.airis_target import OFFSETS, AirisTarget
from bench.arguments import names_of, port_offsets
from bench.bare_target import BareTarget
from bench.environment import environment
from bench.folders import RESULTS, absolute, work_folder
from bench.payloads import base_before
from bench.report import print_report, run_line
from bench.report_html import page
from bench.results import CALLS, MANY_SERIES, NEW_SERIES, Results
from bench.runner import Options, cores_of_calls, quick, run_ingestion
from bench.target import Target

_BASE_HOURS = 12.0
_IDLE_SECONDS = 20.0
# What is read of the data that queries are asked of.
_POINTS, _LINES, _SPANS = 5_000_000, 1_000_000, 1_000_000

Part = Callable[[Results, argparse.Namespace, Options], None]


def _ingestion(name: str, results: Results, given: argparse.Namespace, options: Options) -> None:
    results.runs += run_ingestion(targets(given), [name], options, lambda run: print(run_line(run), flush=True))


def _calls(results: Results, given: argparse.Namespace, options: Options) -> None:
    division = cores_of_calls()
    results.environment["calls"] = str(division)
    print(results.environment["calls"], flush=True)
    able = targets(given, authenticated=True)
    if "airis-frontends" in given.targets or ("airis" in given.targets and division.frontends > 1):
        results.environment["frontends"] = str(division.frontends)
        able.append(_airis(given, authenticated=True, frontends=division.frontends))
    results.runs += run_ingestion(able, [CALLS], options, lambda run: print(run_line(run), flush=True))


def _stored(name: str, results: Results, given: argparse.Namespace, options: Options) -> None:
    storing = [target for target in targets(given) if target.stores]
    results.runs += run_ingestion(storing, [name], options, lambda run: print(run_line(run), flush=True))


def _start(results: Results, given: argparse.Namespace, options: Options) -> None:
    idle = 1.0 if given.quick else _IDLE_SECONDS
    for _ in range(options.repeats):
        results.start.append(startup.measure(_airis(given), idle, options.work))
        print(json.dumps(results.start[-1]), flush=True)


def _journal(results: Results, given: argparse.Namespace, options: Options) -> None:
    command = [sys.executable, "-m", "bench.journal", "--seconds", "1" if given.quick else "5"]
    command += ["--directory", str(options.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    results.journal = json.loads(done.stdout)


def _queries(results: Results, given: argparse.Namespace, options: Options) -> None:
    # It brings ClickHouse into this process.
    from bench import queries
    from bench.query_questions import Sizes

    share, repeats = (0.01, 10) if given.quick else (1.0, 200)
    points, lines, spans = (int(amount * share) for amount in (_POINTS, _LINES, _SPANS))
    sizes = Sizes(points, lines, spans, end=int(time.time()) // 10 * 10 - 30)
    with tempfile.TemporaryDirectory(prefix="airis-queries-", dir=options.work, ignore_cleanup_errors=True) as folder:
        figures = queries.measure(Path(folder), sizes, repeats, given.port_offsets)
    results.queries += [asdict(figure) for figure in figures]


PARTS: dict[str, Part] = {
    "metrics": partial(_ingestion, "metrics"),
    "logs": partial(_ingestion, "logs"),
    "traces": partial(_ingestion, "traces"),
    "new-series": partial(_stored, NEW_SERIES),
    "many-series": partial(_stored, MANY_SERIES),
    "calls": _calls,
    "start": _start,
    "journal": _journal,
    "queries": _queries,
}
"""Everything that is measured, in this order."""


def _airis(
    given: argparse.Namespace, *, through_envoy: bool = True, authenticated: bool = False, frontends: int = 0
) -> AirisTarget:
    return AirisTarget(
        through_envoy=through_envoy, authenticated=authenticated, frontends=frontends, offsets=given.port_offsets
    )


def targets(given: argparse.Namespace, *, authenticated: bool = False) -> list[Target]:
    """Whom to measure, in the order of the table; ours with authentication or without."""
    found: list[Target] = []
    for name in given.targets:
        if name == "airis":
            found.append(_airis(given, authenticated=authenticated))
        elif name == "airis-direct":
            found.append(_airis(given, through_envoy=False, authenticated=authenticated))
        elif name == "bare":
            found.append(BareTarget())
        elif name == "airis-frontends":
            # For calls alone, and so many as its cores allow.
            continue
        else:
            # Only who asks for peers needs what gets them.
            from bench.peers.catalogue import PEERS

            found += [peer() for peer in (PEERS.values() if name == "peers" else [PEERS[name]])]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures; returns the exit code."""
    given = _parser().parse_args(arguments)
    # What was started is stopped, and its folder removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    given.results.mkdir(parents=True, exist_ok=True)
    work = work_folder(given.work_dir, given.results)
    options = Options(
        base_ns=base_before(time.time_ns(), _BASE_HOURS),
        repeats=given.repeats,
        seconds=given.seconds,
        latency_seconds=given.seconds,
        work=work,
    )
    if given.quick:
        options = quick(options)
    results = Results(environment(work), {**asdict(options), "targets": given.targets, "parts": given.only})
    for name in given.only:
        print(f"— {name}", flush=True)
        try:
            PARTS[name](results, given, options)
        except Exception as error:
            results.faults.append(f"{name} did not run: {type(error).__name__}: {error}")
        _write(results, given.results)
    print_report(results, Console(width=None if sys.stdout.isatty() else 180))
    print(f"{given.results / 'results.json'}, {given.results / 'results.html'}")
    return 1 if results.all_faults() else 0


def _write(results: Results, folder: Path) -> None:
    """After each part: a run that is broken off has what it measured."""
    outcomes = [{**asdict(each), "verdict": each.verdict} for each in goals.outcomes(results)]
    results.write(folder / "results.json", outcomes)
    (folder / "results.html").write_text(page(results), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds in place of minutes: shows that it works only")
    parser.add_argument("--only", type=names_of(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=3, help="how often each target is measured (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a peak is measured (10)")
    parser.add_argument(
        "--targets",
        type=lambda text: text.split(","),
        default=["airis", "airis-direct", "bare"],
        help="airis, airis-direct (the services' ports), airis-frontends (calls only), bare, peers (all), or a "
        "peer's name",
    )
    parser.add_argument("--results", type=absolute, default=RESULTS, help="the folder of the results")
    parser.add_argument("--work-dir", type=absolute, default=None, help="on the disk to measure; default: temporary")
    parser.add_argument("--port-offsets", type=port_offsets, default=OFFSETS, help="FIRST-LAST")
    return parser


if __name__ == "__main__":
    sys.exit(main())
