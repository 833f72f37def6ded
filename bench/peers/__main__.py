"""`python -m bench.peers fetch` fills the cache with the peers; `python -m bench.peers run` measures them beside ours.

`run` prints a table, and writes `results.json` and `results.html`. It exits with 1 if ours lost or doubled an item, did
not run, or answered a question with nothing; what failed of a peer is told. What a peer loses when it is killed is its
figure, and no failure. It exits with 2 if peers that store something were to be measured, and none could be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from rich.console import Console

from bench.airis_target import OFFSETS, AirisTarget
from bench.arguments import names_of, port_offsets
from bench.bare_target import BareTarget
from bench.environment import environment
from bench.folders import absolute, work_folder
from bench.payloads import base_before
from bench.peers import questions_airis, questions_peers
from bench.peers.catalogue import PEERS, recipes
from bench.peers.kill import measure_kills
from bench.peers.peer import Peer
from bench.peers.questions import Ask, Data, measure_questions
from bench.peers.report import PeerResults, kill_line, print_all, question_line, write
from bench.report import run_line
from bench.results import Results
from bench.runner import Options, run_ingestion
from bench.target import SIGNALS, Target
from deploy.servers.cache import Cache
from deploy.servers.errors import ServerError

_OURS = ("airis", "bare")
# Before now, so that no peer refuses the data as old, and a fast one does not reach the present.
_BASE_HOURS = 12.0

# 5M points, 1M lines, 1M spans.
_QUESTION_REQUESTS = {"metrics": 5_000, "logs": 1_000, "traces": 1_954}


def main() -> int:
    """Runs the command; returns its exit code."""
    given = _parser().parse_args()
    return _fetch(given.names or list(PEERS)) if given.command == "fetch" else _run(given)


def _fetch(names: list[str]) -> int:
    if unknown := sorted(set(names) - set(PEERS)):
        print(f"bench.peers: there is no {', '.join(unknown)}; there are {', '.join(PEERS)}", file=sys.stderr)
        return 2
    cache = Cache()
    started = time.monotonic()
    try:
        cache.fill(recipes(names), lambda line: print(line, flush=True))
    except ServerError as error:
        print(f"bench.peers: {error}", file=sys.stderr)
        return 1
    print(f"{len(names)} peers are in {cache.folder} ({time.monotonic() - started:.0f} s)")
    return 0


def _run(given: argparse.Namespace) -> int:
    given.results.mkdir(parents=True, exist_ok=True)
    work = work_folder(given.work_dir, given.results)
    options = Options(
        base_ns=base_before(time.time_ns(), _BASE_HOURS),
        repeats=given.repeats,
        seconds=given.seconds,
        latency_seconds=given.seconds,
        merge_seconds=given.merge_seconds,
        work=work,
    )
    asked = {name: getattr(given, name) for name in ("targets", "kills", "questions", "question_share")}
    measured = PeerResults(Results(environment(work), {**asdict(options), **asked}))
    for signal in given.signals:
        runs = run_ingestion(_targets(given), [signal], options, lambda run: print(run_line(run), flush=True))
        measured.results.runs += runs
        write(measured, given.results)
    for _ in range(given.kills):
        for signal in given.signals:
            measured.kills += measure_kills(
                _targets(given), [signal], options.base_ns, given.kill_seconds,
                lambda killed: print(kill_line(killed), flush=True), work,
            )  # fmt: skip
            write(measured, given.results)
    for signal in given.signals if given.questions else ():
        data = Data(signal, options.base_ns, int(_QUESTION_REQUESTS[signal] * given.question_share))
        measured.questions += measure_questions(
            [pair for pair in _asked(given) if signal in pair[0].signals], data, given.questions,
            lambda each: print(question_line(each), flush=True), work,
        )  # fmt: skip
        write(measured, given.results)
    print_all(measured, Console(width=None if sys.stdout.isatty() else 180))
    print(f"{given.results / 'results.json'}, {given.results / 'results.html'}")
    return _ended(measured, given.targets)


def _ended(measured: PeerResults, targets: Sequence[str]) -> int:
    """Tells how many peers were measured; returns the exit code."""
    names = measured.measured()
    print(f"peers measured: {sum(peer.name in names for peer in PEERS.values())} of {len(PEERS)}")
    if measured.own_faults():
        return 1
    storing = [peer.name for name, peer in PEERS.items() if name in targets and peer.stores]
    return 2 if storing and names.isdisjoint(storing) else 0


def _targets(given: argparse.Namespace) -> list[Target]:
    ours: dict[str, Target] = {"airis": AirisTarget(offsets=given.port_offsets), "bare": BareTarget()}
    return [ours[name] if name in ours else PEERS[name]() for name in given.targets]


def _asked(given: argparse.Namespace) -> list[tuple[Target, Callable[[Data], Mapping[str, Ask]]]]:
    found: list[tuple[Target, Callable[[Data], Mapping[str, Ask]]]] = []
    for target in _targets(given):
        if isinstance(target, AirisTarget):
            found.append((target, questions_airis.questions_of(target)))
        elif isinstance(target, Peer) and target.stores:
            found.append((target, questions_peers.questions_of(target)))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="get what is missing in the cache")
    fetch.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(PEERS)}")
    run = commands.add_parser("run", help="measure")
    known = [*_OURS, *PEERS]
    run.add_argument("--targets", type=names_of(known), default=known, help=f"of {','.join(known)}")
    run.add_argument("--signals", type=names_of(list(SIGNALS)), default=list(SIGNALS))
    run.add_argument("--repeats", type=int, default=3, help="how often each is measured (3)")
    run.add_argument("--seconds", type=float, default=10.0, help="how long a peak is measured (10)")
    run.add_argument("--merge-seconds", type=float, default=60.0, help="how long merges may go on after it (60)")
    run.add_argument("--kills", type=int, default=1, help="how often each is killed under load (1)")
    run.add_argument("--kill-seconds", type=float, default=10.0, help="how long load goes before a kill (10)")
    run.add_argument("--questions", type=int, default=100, help="how often each question is asked (100); 0: none")
    run.add_argument("--question-share", type=float, default=1.0, help="1.0: of 5M points, 1M lines, 1M spans")
    run.add_argument("--results", type=absolute, default="bench-results/peers", help="the folder of the results")
    run.add_argument("--work-dir", type=absolute, default=None, help="on the disk to measure; default: temporary")
    run.add_argument("--port-offsets", type=port_offsets, default=OFFSETS, help="ours: FIRST-LAST")
    return parser


if __name__ == "__main__":
    sys.exit(main())
