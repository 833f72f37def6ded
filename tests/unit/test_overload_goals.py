"""The overload run says what happened, and each goal that is missed."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from overload_load import HEALTH, Call, Phase, Report, Traffic

from bench.overload_goals import Verdict, judge, recovery, stored_rate, stored_within, table
from bench.overload_traffic import SERVICES, kinds

METHOD = "/airis.metrics.v1.MetricsService/QueryMetrics"
GOOD = Verdict(
    name="metrics QueryMetrics",
    peak=100.0,
    goodput=95.0,
    stored=None,
    offered=300.0,
    late_p95=0.01,
    admitted_p95=1.0,
    deadline=10.0,
    refused_p95=0.01,
    refused={"RESOURCE_EXHAUSTED": 400},
    without_retry_info=0,
    recovery=1.0,
    health_checks=100,
    health_failed=0,
    health_p95=0.01,
    memory=500.0,
    stored_after=0.0,
)


def report(seconds: float, *calls: Call) -> Report:
    return Report(Phase("", seconds, [Traffic(METHOD)]), list(calls))


def call(at: float, code: str = "OK", *, seconds: float = 0.01, retry_after: float | None = 1.0) -> Call:
    return Call(METHOD, at, seconds, code, retry_after)


def test_what_is_as_promised_misses_nothing() -> None:
    assert GOOD.misses == []
    assert table([GOOD])[1].endswith("met")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"goodput": 89.0}, "goodput 0.89 of the peak"),
        ({"goodput": 300.0, "stored": 89.0}, "stored 0.89 of the peak"),
        ({"offered": 269.0}, "not shown: the load generator sent only 2.69 times the peak"),
        ({"late_p95": 0.11}, "not shown: the load generator was late, p95 0.11 s"),
        ({"admitted_p95": 11.0}, "p95 of what is admitted"),
        ({"refused_p95": 0.2}, "p95 of a refusal"),
        ({"refused": {"RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 2}}, "{'DEADLINE_EXCEEDED': 2}"),
        ({"without_retry_info": 1}, "1 refused without RetryInfo"),
        ({"recovery": 6.0}, "recovered after 6 s"),
        ({"recovery": math.inf}, "recovered after inf s"),
        ({"health_failed": 1}, "1 health checks failed"),
        ({"health_p95": 1.1}, "p95 of a health check 1.10 s"),
        ({"health_p95": math.nan}, "p95 of a health check nan s"),
    ],
)
def test_each_goal_is_told_when_it_is_missed(change: dict[str, object], told: str) -> None:
    verdict = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    (miss,) = verdict.misses
    assert told in miss
    assert verdict.document()["misses"] == [miss]


def test_recovery_is_when_the_last_bad_second_has_ended() -> None:
    good = [call(at / 10) for at in range(100)]
    assert recovery(report(10.0, *good)) == 0.0
    assert recovery(report(10.0, *good, call(3.5, "RESOURCE_EXHAUSTED"))) == 4.0
    assert recovery(report(10.0, *good, call(9.5, "RESOURCE_EXHAUSTED"))) == math.inf


def test_four_phases_make_a_verdict() -> None:
    health = Call(HEALTH, 0.5, 0.002, "OK", None)
    peak = report(2.0, *(call(at / 10) for at in range(20)), health)
    once = report(2.0, *(call(at / 20) for at in range(40)), health)
    refused = [call(at / 10, "RESOURCE_EXHAUSTED", seconds=0.005) for at in range(39)]
    silent = call(3.0, "RESOURCE_EXHAUSTED", retry_after=None)
    thrice = report(4.0, *(call(at / 20, seconds=0.5) for at in range(80)), *refused, silent, health)
    after = report(10.0, *(call(at / 10) for at in range(100)), Call(HEALTH, 0.5, 0.002, "UNAVAILABLE", None))
    verdict = judge("q", 10.0, 10.0, peak, once, thrice, after, memory=1.0, stored=None, stored_after=0.0)
    assert (verdict.peak, verdict.offered, verdict.refused) == (20.0, 30.0, {"RESOURCE_EXHAUSTED": 40})
    # What ends after its phase is no goodput of it.
    assert verdict.goodput == pytest.approx(20.0, rel=0.15)
    assert (verdict.admitted_p95, verdict.refused_p95, verdict.without_retry_info) == (0.5, 0.005, 1)
    assert (verdict.health_checks, verdict.health_failed) == (4, 1)


def test_ingestion_is_judged_by_the_peak_of_what_is_stored() -> None:
    peak, after = (report(2.0, *(call(at / 10) for at in range(20))) for _ in range(2))
    once, thrice = (
        report(2.0, *(call(at / 50) for at in range(100))),
        report(4.0, *(call(at / 40) for at in range(160))),
    )
    verdict = judge("i", 10.0, 10.0, peak, once, thrice, after, memory=1.0, stored=8.0, stored_after=1.0)
    assert (verdict.peak, verdict.stored_share) == (10.0, 0.8)
    assert verdict.goodput == pytest.approx(40.0, rel=0.1)
    assert verdict.misses[:1] == ["stored 0.80 of the peak"]
    assert verdict.document()["stored_share"] == 0.8
    assert " 0.80 " in table([verdict])[1]


def test_a_call_that_was_due_and_made_after_the_overload_is_no_load() -> None:
    peak, once, after = (report(2.0, *(call(at / 10) for at in range(20))) for _ in range(3))
    late = [dataclasses.replace(call(0.1 + at / 20), late=0.05 + at / 20) for at in range(120)]
    verdict = judge("q", 10.0, 10.0, peak, once, report(4.0, *late), after, memory=1.0, stored=None, stored_after=0.0)
    assert verdict.offered == sum(each.at < 4.0 for each in late) / 4.0 < 20.0
    assert verdict.late_p95 == late[113].late
    assert [miss.startswith("not shown: ") for miss in verdict.misses][:2] == [True, True]


def test_what_the_store_takes_is_counted_from_the_begin_of_a_phase_to_its_end() -> None:
    phase = Report(Phase("3x", 10.0, []), began=100.0)
    assert stored_within([(99.0, 40), (99.5, 50), (104.0, 90), (109.9, 150), (110.1, 900)], phase) == 10.0
    assert stored_within([], phase) == 0.0


def test_what_is_acknowledged_counts_as_it_is_stored() -> None:
    most = report(2.0, *(call(at / 10) for at in range(20)))
    assert most.goodput() == pytest.approx(10.0, rel=0.1)
    assert stored_rate(most, 0.0) == most.goodput()
    assert stored_rate(most, 6.0) == most.goodput() / 4


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_asked_and_sent_to(service: str) -> None:
    query, ingest = kinds(service)
    assert query.service == ingest.service == service
    assert "Ingest" in ingest.method
    assert (query.stores, ingest.stores) == (False, True)
    assert 0 < ingest.deadline <= query.deadline
