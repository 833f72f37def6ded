"""Overloads real services: `python -m bench.overload [SECONDS] [--services metrics,logs] [--envoy] [--json FILE]`.

For each service, on free ports and in a folder of its own, for a query and for ingestion: what it can do at most; that
much offered; three times that for SECONDS (120); then half of it, to see how soon it is itself again. Of ingestion, the
most is what it stores: what was acknowledged, by the time until all of it could be read. Health is checked ten times a
second throughout, at the service's own port. Calls go there too; with --envoy they go through the Envoy of a whole
platform, as users' calls do. Figures go to bench-results/overload.json, too. Ends with 1 when a goal is missed:

- goodput under overload is 0.9 of the peak;
- of ingestion the store takes as much a second meanwhile: the journal's own count of what is stored tells;
- p95 of what is admitted is within the contract's deadline;
- the rest is refused with RESOURCE_EXHAUSTED and RetryInfo, p95 within 0.1 s;
- five seconds after the overload everything is answered;
- every health check is answered, p95 within 1 s;
- once the service has stopped, each item that it acknowledged is stored, once;

or when they are not shown to be met: fewer than 2.7 times the peak were sent, or the calls later than 0.1 s (p95).

The load comes from a process of its own, on a core of its own: what is offered in vain costs as much as the rest, and
must not be taken from the service. That has the other cores, in each phase the same.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import psutil
from overload_load import HEALTH, Call, Phase, Traffic, offer
from platform_process import WITHOUT_DEMO, Platform
from service_process import ServiceProcess

from bench.environment import environment
from bench.folders import RESULTS, absolute, work_folder
from bench.overload_audit import items, lost_or_doubled
from bench.overload_goals import RECOVERY_SECONDS, Verdict, judge, stored_rate, stored_within, table
from bench.overload_traffic import SERVICES, Kind, fill, kinds, store_all
from bench.processes import cores as usable_cores
from bench.results import write_json
from services.shared.bus.adapters.journal_checkpoint import Checkpoint

TIMES = 3.0
_CALLERS = 16
_HEALTH_RATE = 10.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A service that runs.

    Attributes:
        target: Where calls go.
        health: Where its health is checked.
        pid: Its process.
    """

    target: str
    health: str
    pid: int


@contextmanager
def alone(service: str, folder: Path) -> Iterator[Subject]:
    """A service by itself, asked at its own port."""
    process = ServiceProcess(service, folder)
    process.start()
    assert process.process is not None
    try:
        yield Subject(process.grpc, process.grpc, process.process.pid)
    finally:
        process.stop()


@contextmanager
def behind_envoy(service: str, folder: Path) -> Iterator[Subject]:
    """A service of a whole platform, asked through its Envoy."""
    running = Platform(folder, *WITHOUT_DEMO)
    running.start()
    try:
        state = running.state()[service]
        yield Subject(running.edge, state["address"], state["pid"])
    finally:
        running.stop()


class Watch:
    """What a service has, as time goes on.

    Args:
        pid: Its process.
        journal: The folder of its journal.

    Attributes:
        most_memory: In MiB.
        stored: How many batches of the journal were stored when, by `time.monotonic`. Each is a call.
    """

    def __init__(self, pid: int, journal: Path) -> None:
        self._process, self._journal = psutil.Process(pid), journal
        self.most_memory = 0.0
        self.stored: list[tuple[float, int]] = []
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        for turn in count():
            if self._ended.wait(0.1):
                return
            self.most_memory = max(self.most_memory, self._process.memory_info().rss / 2**20)
            # It syncs the checkpoint, as the service does for each insert: not so often that it counts.
            if turn % 5 == 0:
                self.look_at_the_store()

    def look_at_the_store(self) -> None:
        """Notes how many batches are stored now."""
        checkpoint = Checkpoint.open(self._journal)
        checkpoint.close()
        self.stored.append((time.monotonic(), checkpoint.standing.committed))

    def end(self) -> None:
        """Looks no longer."""
        self._ended.set()


def overload(subject: Subject, kind: Kind, seconds: float, watch: Watch, cores: set[int]) -> tuple[Verdict, list[Call]]:
    """Runs the four phases of one RPC; the load comes from those cores. Gives its calls besides."""
    apply = partial(offer, subject.target, health=subject.health, timeout=kind.deadline, cores=sorted(cores))
    health = Traffic(HEALTH, _HEALTH_RATE)
    before, after = max(seconds / 8, 2.0), max(seconds / 8, 2 * RECOVERY_SECONDS)
    most = Phase("at most", before, [Traffic(kind.method, request=kind.request, callers=_CALLERS), health])
    (found,) = apply([most])
    peak = max(stored_rate(found, store_all(kind.service, subject.target) if kind.stores else 0.0), 1.0)
    phases = [
        Phase("1x", before, [Traffic(kind.method, peak, kind.request), health]),
        Phase("3x", seconds, [Traffic(kind.method, TIMES * peak, kind.request), health]),
        Phase("0.5x", after, [Traffic(kind.method, 0.5 * peak, kind.request), health]),
    ]
    reports = apply(phases)
    stored_after = store_all(kind.service, subject.target) if kind.stores else 0.0
    calls = [call for report in (found, *reports) for call in report.of(kind.method)]
    verdict = judge(
        kind.name,
        kind.deadline,
        peak,
        found,
        *reports,
        memory=watch.most_memory,
        stored=stored_within(watch.stored, reports[1]) if kind.stores else None,
        stored_after=stored_after,
    )
    return verdict, calls


def measure(
    service: str, seconds: float, cores: set[int], work: Path, *, through_envoy: bool, acknowledged: bool
) -> list[Verdict]:
    """Overloads one service, from those cores, with its data in a new folder within `work`."""
    start = behind_envoy if through_envoy else alone
    query, ingest = kinds(service)
    with tempfile.TemporaryDirectory(prefix="airis-overload-", dir=work, ignore_cleanup_errors=True) as folder:
        with start(service, Path(folder)) as subject:
            watch = Watch(subject.pid, Path(folder) / service / "journal")
            try:
                further = fill(service, subject.target)
                of_query, _ = overload(subject, query, seconds, watch, cores)
                ingest = replace(ingest, stores=not acknowledged)
                of_ingest, calls = overload(subject, ingest, seconds, watch, cores)
                store_all(service, subject.target)
                # Each `store_all` adds an item: this one, and those before and after a load that is to be stored.
                further += 3 if ingest.stores else 1
            finally:
                watch.end()
        faults = lost_or_doubled(Path(folder), service, items(calls, further))
    return [of_query, replace(of_ingest, faults=tuple(faults))]


def _own_core() -> set[int]:
    """The last core, for the load; this process, and what it starts, has the others. None where there is but one."""
    others = os.sched_getaffinity(0)
    if len(others) == 1:
        return set()
    own = {max(others)}
    os.sched_setaffinity(0, others - own)
    return own


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=120.0, help="how long the overload lasts")
    parser.add_argument("--services", default=",".join(SERVICES))
    parser.add_argument(
        "--acknowledged", action="store_true", help="three times what is acknowledged at most, stored or not"
    )
    parser.add_argument("--envoy", action="store_true", help="through the Envoy of a whole platform")
    parser.add_argument("--work-dir", type=absolute, help="where data folders are made; default: temporary")
    parser.add_argument("--json", type=Path, default=RESULTS / "overload.json", help="where the figures are written")
    chosen = parser.parse_args()
    print(f"Python {platform.python_version()}, {usable_cores():g} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    work = work_folder(chosen.work_dir, RESULTS)
    where, cores = environment(work), _own_core()
    verdicts: list[Verdict] = []
    for service in chosen.services.split(","):
        found = measure(
            service, chosen.seconds, cores, work, through_envoy=chosen.envoy, acknowledged=chosen.acknowledged
        )
        print("\n".join(table(found)[bool(verdicts) :]), flush=True)
        verdicts += found
    met = not any(verdict.misses for verdict in verdicts)
    print(f"goals {'met' if met else 'MISSED, or not shown to be met'}; load {os.getloadavg()[0]:.1f}")
    options = {"seconds": chosen.seconds, "envoy": chosen.envoy, "acknowledged": chosen.acknowledged}
    document = {
        "environment": {**where, "load average at the end": f"{os.getloadavg()[0]:.1f}"},
        "options": options,
        "ok": met,
        "rpcs": [verdict.document() for verdict in verdicts],
    }
    write_json(chosen.json, document)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
