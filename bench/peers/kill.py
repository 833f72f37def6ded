"""What is lost when a server is killed under load: what it had acknowledged, less what it has after a restart.

Requests without an answer may be stored or not, so that a small loss may hide behind them: at most what was in flight.
A target that can be counted from outside, as ours, is counted so, too, once it has stopped: items, distinct ones, and
rollups.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench import processes
from bench.ingest import read_back
from bench.load import LoadGenerator, Phase
from bench.target import Auditable, Target, TargetError

_AFTER_SECONDS = 0.5
_POLL_SECONDS = 1.0
_STEADY_SECONDS = 10.0
# All is there; what comes twice may still come.
_COMPLETE_SECONDS = 3.0
_SETTLE_SECONDS = 180.0
_GONE_SECONDS = 10.0


@dataclass(frozen=True)
class Killed:
    """One kill.

    Attributes:
        target, signal: What was killed under which load.
        acknowledged: Items acknowledged before it died.
        stored: Items that it has after the restart.
        in_flight: Items of the requests that were under way: each may be stored.
        restart_seconds: Until it took requests again.
        audit: Further counts of the stopped store.
        fault: Why it could not be measured, that nothing was acknowledged, or that the counts differ; else empty.
    """

    target: str
    signal: str
    acknowledged: int = 0
    stored: int = 0
    in_flight: int = 0
    restart_seconds: float = 0.0
    audit: Mapping[str, int] = field(default_factory=dict)
    fault: str = ""

    @property
    def lost(self) -> int:
        """Items that were acknowledged and are not there, by the lowest count."""
        return max(0, self.acknowledged - min([self.stored, *self.audit.values()]))

    @property
    def doubled(self) -> int:
        """Items that are there beyond all that were sent, by the highest count."""
        return max(0, max([self.stored, *self.audit.values()]) - self.acknowledged - self.in_flight)


def measure_kills(
    targets: Sequence[Target],
    signals: Sequence[str],
    base_ns: int,
    seconds: float,
    report: Callable[[Killed], None],
    work: Path | None = None,
    prepared_bytes: int = 256 * 2**20,
) -> list[Killed]:
    """Kills each target that stores something once under the load of each signal.

    Args:
        targets: Not started.
        signals: "metrics", "logs", "traces".
        base_ns: The time of the first item.
        seconds: How long load goes before the kill.
        report: Called after each kill.
        work: Where data folders are made; None: where the system keeps temporary files.
        prepared_bytes: What each process of the load generator makes before its clock starts.
    """
    found = []
    for signal in signals:
        able = [target for target in targets if target.stores and signal in target.signals]
        if not able:
            continue
        with LoadGenerator(signal, base_ns, prepared_bytes=prepared_bytes) as load:
            for target in able:
                try:
                    killed = kill_under_load(target, signal, load, seconds, work)
                except (TargetError, ConnectionError, OSError) as error:
                    killed = Killed(target.name, signal, fault=str(error))
                found.append(killed)
                report(killed)
    return found


def kill_under_load(target: Target, signal: str, load: LoadGenerator, seconds: float, work: Path | None) -> Killed:
    """Starts a target in a new folder, loads it, kills it, starts it again and counts.

    Raises:
        TargetError: It does not start, or cannot count.
        ConnectionError: It does not take requests.
    """
    directory = Path(tempfile.mkdtemp(prefix="airis-bench-", dir=work))
    try:
        target.start(directory)
        endpoint = target.endpoint(signal)
        timer = threading.Timer(seconds, kill, (target.pids(),))
        # Half a second later, so that the last requests meet a dead server, and no more than those.
        result = load.run(Phase(endpoint, 0, 10, seconds + _AFTER_SECONDS), began=timer.start)
        timer.join()
        target.stop()
        began = time.monotonic()
        target.start(directory)
        restart_seconds = time.monotonic() - began
        stored = settled(target, signal, result.acknowledged)
        in_flight = 10 * (result.acknowledged // max(1, len(result.latencies)))
        target.stop()
        audit = target.audit(signal) if isinstance(target, Auditable) else {}
        fault = _fault(result.acknowledged, {"read back": stored, **audit})
        return Killed(target.name, signal, result.acknowledged, stored, in_flight, restart_seconds, audit, fault)
    finally:
        target.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _fault(acknowledged: int, counts: Mapping[str, int]) -> str:
    if not acknowledged:
        return "nothing was acknowledged"
    return "" if len(set(counts.values())) == 1 else f"its counts differ: {counts}"


def kill(pids: Sequence[int]) -> None:
    """Kills processes and all that they started with SIGKILL, all at once, and returns when they are gone."""
    found = []
    for pid in processes.tree(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=_GONE_SECONDS)


def settled(target: Target, signal: str, acknowledged: int) -> int:
    """What is stored, once that is all, or has not grown for a while."""
    ends = time.monotonic() + _SETTLE_SECONDS
    stored, since = -1, time.monotonic()
    while time.monotonic() < min(ends, since + (_STEADY_SECONDS if stored < acknowledged else _COMPLETE_SECONDS)):
        now = read_back(target, signal)
        if now != stored:
            stored, since = now, time.monotonic()
        time.sleep(_POLL_SECONDS)
    return stored
