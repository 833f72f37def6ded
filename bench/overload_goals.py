"""What an overload run found, and whether it is what is promised."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from overload_load import HEALTH, Call, Report, lateness, percentile

GOODPUT_SHARE = 0.9
LEAST_TIMES, LATE_SECONDS = 2.7, 0.1
"""A load of fewer times the peak, or one that came later (p95), shows nothing of three times the peak."""
REFUSED_SECONDS = 0.1
RECOVERY_SECONDS = 5.0
HEALTH_SECONDS = 1.0
_RECOVERED_SHARE = 0.99


@dataclass(frozen=True, slots=True)
class Verdict:
    """One RPC under overload. Rates are calls a second, times seconds.

    Attributes:
        name: "metrics IngestMetrics".
        peak: The most that was answered well, without overload; of what is to be stored: that was stored.
        goodput: What was answered well while three times the peak was offered: of ingestion, acknowledged.
        stored: What the store took then; None: nothing is to be stored, or the peak is what is acknowledged.
        offered: What was sent then: a call that was due and began after its phase does not count.
        late_p95: How long after they were due the calls were sent.
        admitted_p95: How long those took that were answered well.
        deadline: How long they may.
        refused_p95: How long those took that were not.
        refused: How many ended with which code.
        without_retry_info: How many of the refused were not told when to come back.
        recovery: After the overload, from when on all is answered well again; infinite: never.
        health_checks: How many were made in all.
        health_failed: How many of them failed.
        health_p95: How long they took under overload.
        memory: The most that the service had, in MiB.
        stored_after: After all of it, how long until everything acknowledged was stored; 0: nothing was to be.
        faults: What is wrong with what is stored in the end.
    """

    name: str
    peak: float
    goodput: float
    stored: float | None
    offered: float
    late_p95: float
    admitted_p95: float
    deadline: float
    refused_p95: float
    refused: dict[str, int]
    without_retry_info: int
    recovery: float
    health_checks: int
    health_failed: int
    health_p95: float
    memory: float
    stored_after: float
    faults: tuple[str, ...] = ()

    @property
    def stored_share(self) -> float | None:
        """What the store took under overload, of the peak of what it takes."""
        return None if self.stored is None else self.stored / self.peak

    @property
    def misses(self) -> list[str]:
        """What is not as promised, or was not shown to be; empty: everything is."""
        times, stored = self.offered / self.peak, self.stored_share
        others = {code: count for code, count in self.refused.items() if code != "RESOURCE_EXHAUSTED"}
        goals = (
            (times >= LEAST_TIMES, f"not shown: the load generator sent only {times:.2f} times the peak"),
            (self.late_p95 <= LATE_SECONDS, f"not shown: the load generator was late, p95 {self.late_p95:.2f} s"),
            (self.goodput >= GOODPUT_SHARE * self.peak, f"goodput {self.goodput / self.peak:.2f} of the peak"),
            (stored is None or stored >= GOODPUT_SHARE, f"stored {stored or 0:.2f} of the peak"),
            (self.admitted_p95 <= self.deadline, f"p95 of what is admitted {self.admitted_p95:.2f} s"),
            (not self.refused or self.refused_p95 <= REFUSED_SECONDS, f"p95 of a refusal {self.refused_p95:.3f} s"),
            (not others, f"ended otherwise: {others}"),
            (not self.without_retry_info, f"{self.without_retry_info} refused without RetryInfo"),
            (self.recovery <= RECOVERY_SECONDS, f"recovered after {self.recovery:.0f} s"),
            (not self.health_failed, f"{self.health_failed} health checks failed"),
            (self.health_p95 <= HEALTH_SECONDS, f"p95 of a health check {self.health_p95:.2f} s"),
        )
        return [*(miss for met, miss in goals if not met), *self.faults]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        shares = {"goodput_share": self.goodput / self.peak, "stored_share": self.stored_share}
        return {**values, **shares, "times_the_peak": self.offered / self.peak, "misses": self.misses}


def recovery(after: Report) -> float:
    """From which second on nearly all calls are answered well, to the end of the phase; infinite: never."""
    seconds = int(after.phase.seconds)
    shares = []
    for second in range(seconds):
        calls = [call for call in after.of() if second <= call.at < second + 1]
        good = sum(call.code == "OK" for call in calls)
        shares.append(good / len(calls) if calls else 1.0)
    for second in range(seconds):
        if all(share >= _RECOVERED_SHARE for share in shares[second:]):
            return float(second)
    return math.inf


def stored_rate(most: Report, stored_after: float) -> float:
    """Calls a second of a phase that were answered well, and stored so many seconds after it.

    What is acknowledged waits in a journal, which takes more than the store, but not for long.
    """
    return most.goodput() * most.phase.seconds / (most.phase.seconds + stored_after)


def stored_within(seen: Sequence[tuple[float, int]], phase: Report) -> float:
    """Calls a second that the store took during a phase.

    Args:
        seen: How many were stored when, by the same clock as `Report.began`, in order.
        phase: Which.
    """

    def stored_by(end: float) -> int:
        return max((stored for at, stored in seen if at <= end), default=0)

    ends = phase.began + phase.phase.seconds
    return (stored_by(ends) - stored_by(phase.began)) / phase.phase.seconds


def judge(
    name: str,
    deadline: float,
    peak: float,
    most: Report,
    once: Report,
    thrice: Report,
    after: Report,
    *,
    memory: float,
    stored: float | None,
    stored_after: float,
) -> Verdict:
    """What four phases say: as much as it can, the peak offered, three times that, half of it."""
    everything = thrice.of()
    refused = [call for call in everything if call.code != "OK"]
    health: list[Call] = [call for report in (most, once, thrice, after) for call in report.of(HEALTH)]
    codes = thrice.codes()
    del codes["OK"]
    return Verdict(
        name=name,
        # What is acknowledged is no peak of what is stored.
        peak=peak if stored is not None else max(peak, once.goodput()),
        goodput=thrice.goodput(),
        stored=stored,
        offered=sum(call.at < thrice.phase.seconds for call in everything) / thrice.phase.seconds,
        late_p95=lateness(everything),
        admitted_p95=percentile([call for call in everything if call.code == "OK"]),
        deadline=deadline,
        refused_p95=percentile(refused) if refused else 0.0,
        refused=dict(codes),
        without_retry_info=sum(call.code == "RESOURCE_EXHAUSTED" and call.retry_after is None for call in refused),
        recovery=recovery(after),
        health_checks=len(health),
        health_failed=sum(call.code != "OK" for call in health),
        health_p95=percentile(thrice.of(HEALTH)),
        memory=memory,
        stored_after=stored_after,
    )


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The verdicts as lines."""
    lines = [
        f"{'RPC':<24}{'peak':>8}{'sent':>8}{'late':>8}{'3x':>8}{'share':>7}{'stored':>8}{'p95 ok':>9}"
        f"{'p95 refused':>13}{'recovery':>10}{'health':>14}{'MiB':>7}{'all stored':>12}   goals"
    ]
    for each in verdicts:
        health = f"{each.health_checks - each.health_failed}/{each.health_checks} {each.health_p95 * 1000:.0f} ms"
        stored = "-" if each.stored_share is None else f"{each.stored_share:.2f}"
        lines.append(
            f"{each.name:<24}{each.peak:>6.0f}/s{each.offered / each.peak:>7.2f}x{each.late_p95 * 1000:>5.0f} ms"
            f"{each.goodput:>6.0f}/s{each.goodput / each.peak:>7.2f}{stored:>8}{each.admitted_p95 * 1000:>6.0f} ms"
            f"{each.refused_p95 * 1000:>10.1f} ms{each.recovery:>8.0f} s{health:>14}{each.memory:>7.0f}"
            f"{each.stored_after:>10.1f} s   {'; '.join(each.misses) or 'met'}"
        )
    return lines
