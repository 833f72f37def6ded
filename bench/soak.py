"""Memory over time: `python -m bench.soak [--minutes 30] [--share 0.8] [--json FILE]`.

Runs the whole platform, finds out how many batches of all three signals at once it takes through Envoy and stores, and
then sends that share of it, open loop, for as long as asked. Samples the memory (PSS, so that nothing is counted twice)
of each of its processes, the supervisor's too, every five seconds, and counts what is stored in the end. Figures go to
bench-results/soak.json, too. Ends with 1 when the memory of the second half grows by more than 5 % (a straight line
through its samples, from end to end), when p95 of the calls of a signal, from when they were due, is above what the
contract promises, when more than 0.1 % of the calls fail, when a process of it ended, or when an item was lost or
doubled; or when that is not shown, as the calls were sent later than 0.1 s (p95).

Memory as a whole has no limit that the platform keeps by itself, so that only its growth is judged; its peak is told.
"""

from __future__ import annotations

import argparse
import os
import platform as machine
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from overload_load import Call, Phase, Traffic, lateness, offer, percentile
from platform_process import Platform

from bench.environment import environment
from bench.folders import RESULTS, absolute, work_folder
from bench.overload_audit import items, lost_or_doubled
from bench.overload_goals import LATE_SECONDS
from bench.overload_traffic import SERVICES, Kind, kinds, store_all
from bench.processes import cores, memory
from bench.results import write_json

GROWTH, FAILED = 0.05, 0.001
_SAMPLE_SECONDS, _PEAK_SECONDS, _CALLERS, _DEADLINE = 5.0, 30.0, 4, 5.0


class Samples:
    """The memory of each process of a platform, in MiB, by the second at which it was looked at.

    Args:
        platform: It runs.
    """

    def __init__(self, platform: Platform) -> None:
        self.found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._platform = platform
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            at = time.monotonic() - self._began
            for name, process in self._platform.state().items():
                # One that has ended has no id until it is started again.
                if process["pid"] is not None:
                    # With its own children, as PostgreSQL has them.
                    self.found[name].append((at, memory([process["pid"]]).pss / 2**20))
            if self._platform.process is not None:
                own = memory([self._platform.process.pid], descendants=False).pss
                self.found["supervisor"].append((at, own / 2**20))

    def end(self) -> dict[str, list[tuple[float, float]]]:
        """Looks no longer, and gives what was found."""
        self._ended.set()
        self._thread.join()
        return dict(self.found)


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """By which share the memory grew in the second half, along a straight line; 0 when there are too few samples."""
    half = [sample for sample in samples if sample[0] >= (samples[0][0] + samples[-1][0]) / 2]
    if len(half) < 3:
        return 0.0
    seconds, used = zip(*half, strict=True)
    slope, begin = statistics.linear_regression(seconds, used)
    first, last = begin + slope * seconds[0], begin + slope * seconds[-1]
    return last / first - 1


def between_thirds(samples: Sequence[tuple[float, float]]) -> float:
    """By which share the median of the last third of the time is above that of the first."""
    begin, end = samples[0][0], samples[-1][0]
    third = (end - begin) / 3
    first = statistics.median(used for at, used in samples if at <= begin + third)
    return statistics.median(used for at, used in samples if at >= end - third) / first - 1


def total(samples: dict[str, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """The memory of all processes together."""
    count = min(len(each) for each in samples.values())
    looked = [[each[number] for each in samples.values()] for number in range(count)]
    return [(together[0][0], sum(used for _, used in together)) for together in looked]


def stored_after(target: str) -> dict[str, float]:
    """How many seconds it takes each service until all that it acknowledged before is stored."""
    # All at once: nobody's time counts for another.
    with ThreadPoolExecutor(len(SERVICES)) as together:
        return dict(zip(SERVICES, together.map(lambda service: store_all(service, target), SERVICES), strict=True))


def restarted(state: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which processes of a platform have ended, whether they run again or not."""
    return [
        f"{name} ended: started again {process['restarts']} times, {'runs' if process['pid'] else 'does not run'}"
        for name, process in state.items()
        if process["restarts"] or process["pid"] is None
    ]


def goals(found: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """What is promised with what became of it, and whether it was kept."""
    grown, failed = found["total"]["growth"], found["failed_share"]
    return [
        (f"memory grows by {GROWTH:.0%} at most in the second half: {grown:+.1%}", grown <= GROWTH),
        (f"{FAILED:.1%} of the calls fail at most: {failed:.3%}", failed <= FAILED),
        *(
            (
                f"p95 of {name} is {each['promised_p95'] * 1000:.0f} ms at most: {each['p95'] * 1000:.0f} ms",
                each["p95"] <= each["promised_p95"],
            )
            for name, each in found["calls"].items()
        ),
        *(
            (
                f"p95 of {name} is shown: sent {LATE_SECONDS * 1000:.0f} ms late at most: {late * 1000:.0f} ms (p95)",
                late <= LATE_SECONDS,
            )
            for name, late in ((name, each["late_p95"]) for name, each in found["calls"].items())
        ),
        ("no process ends, and each acknowledged item is stored once", not found["faults"]),
    ]


def since_due(calls: Iterable[Call]) -> list[Call]:
    """The calls, each as long as it took from when it was due: a user waits from then on."""
    return [replace(call, seconds=call.late + call.seconds) for call in calls]


def soak(platform: Platform, minutes: float, share: float) -> dict[str, Any]:
    """Runs it, and gives the figures."""
    sent: list[Kind] = [kinds(service)[1] for service in SERVICES]
    callers = [Traffic(kind.method, request=kind.request, callers=_CALLERS) for kind in sent]
    (peak,) = offer(platform.edge, [Phase("peak", _PEAK_SECONDS, callers)], timeout=_DEADLINE)
    # The journal takes more than the store keeps up.
    taken = {service: _PEAK_SECONDS + seconds for service, seconds in stored_after(platform.edge).items()}
    rates = {
        kind.method: max(sum(call.code == "OK" for call in peak.of(kind.method)) / taken[kind.service], 0.1)
        for kind in sent
    }
    load = [Traffic(kind.method, share * rates[kind.method], kind.request) for kind in sent]
    samples = Samples(platform)
    (report,) = offer(platform.edge, [Phase("soak", minutes * 60, load)], timeout=_DEADLINE)
    found = samples.end()
    stored_after(platform.edge)
    calls = {}
    for kind in sent:
        of = report.of(kind.method)
        calls[kind.name] = {
            "peak_per_second": rates[kind.method],
            "calls": len(of),
            "failed": sum(call.code != "OK" for call in of),
            "codes": dict(Counter(call.code for call in of)),
            "p95": percentile(since_due(of)),
            "promised_p95": kind.latency_p95,
            "p95_by_thirds": [
                percentile(since_due(c for c in of if _third(c.at, minutes) == third)) for third in range(3)
            ],
            "late_p95": lateness(of),
            **items([*peak.of(kind.method), *of], further=2),
        }
    together = total(found)
    failed = sum(each["failed"] for each in calls.values()) / max(len(report.calls), 1)
    return {
        "calls": calls,
        "memory": {name: _summary(each) for name, each in found.items()},
        "total": _summary(together),
        "samples": found,
        "failed_share": failed,
        "faults": restarted(platform.state()),
    }


def _summary(samples: Sequence[tuple[float, float]]) -> dict[str, float]:
    used = [each for _, each in samples]
    return {
        "first": used[0],
        "last": used[-1],
        "most": max(used),
        "growth": growth(samples),
        "between_thirds": between_thirds(samples),
    }


def _third(at: float, minutes: float) -> int:
    return min(int(at / (minutes * 20)), 2)


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.8, help="of what it takes at most")
    parser.add_argument("--work-dir", type=absolute, help="where the data folder is made; default: temporary")
    parser.add_argument("--json", type=Path, default=RESULTS / "soak.json", help="where the figures are written")
    chosen = parser.parse_args()
    print(f"Python {machine.python_version()}, {cores():g} CPUs, load {os.getloadavg()[0]:.1f}", flush=True)
    work = work_folder(chosen.work_dir, RESULTS)
    where = environment(work)
    with tempfile.TemporaryDirectory(prefix="airis-soak-", dir=work, ignore_cleanup_errors=True) as folder:
        platform = Platform(Path(folder), "--data-dir", folder)
        platform.start()
        try:
            found = soak(platform, chosen.minutes, chosen.share)
        finally:
            platform.stop()
        for kind in (kinds(service)[1] for service in SERVICES):
            found["faults"] += lost_or_doubled(Path(folder), kind.service, found["calls"][kind.name])
    for name, figures in found["calls"].items():
        p95 = ", ".join(f"{seconds * 1000:.0f}" for seconds in figures["p95_by_thirds"])
        print(
            f"{name:<24}{figures['calls']:>8} calls, {figures['failed']} failed, p95 {figures['p95'] * 1000:.0f} ms,"
            f" by thirds {p95} ms, sent {figures['late_p95'] * 1000:.0f} ms late (p95)"
        )
    for name, figures in [*found["memory"].items(), ("all", found["total"])]:
        print(
            f"{name:<24}{figures['first']:>8.0f} MiB at first, {figures['last']:.0f} in the end,"
            f" {figures['most']:.0f} at most, {figures['growth']:+.1%} in the second half,"
            f" {figures['between_thirds']:+.1%} from the median of the first third to that of the last"
        )
    for fault in found["faults"]:
        print(f"FAULT: {fault}")
    judged = goals(found)
    for text, is_met in judged:
        print(f"goal: {text}: {'met' if is_met else 'MISSED'}")
    ok = all(is_met for _, is_met in judged)
    options = {"minutes": chosen.minutes, "share": chosen.share}
    document = {"environment": where, "options": options, "ok": ok, "goals": dict(judged), **found}
    write_json(chosen.json, document)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
