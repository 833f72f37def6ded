"""What callers are promised when three times as many calls come as a server can do: over real channels.

The server is the real one but for its servicers, which need one of some workers for some time, so that what it can do
does not depend on the machine. All figures are compared with others of the same run.
"""

from __future__ import annotations

import base64
import statistics
from collections import defaultdict
from collections.abc import Iterator

import pytest
from airis.alerts.v1 import alerts_pb2
from airis.metrics.v1 import metrics_pb2
from overload_load import HEALTH, Call, Phase, Report, Traffic, offer, percentile
from overload_server import CAPACITY, OverloadServer

from resilience.contract import method_policy
from resilience.priority import Priority

DEADLINE_SECONDS = 1.0
RETRY_SHARE, RETRY_RESERVE = 0.1, 10
"""What a client may repeat: of each first attempt, and at once beside that."""

BULK = "/airis.metrics.v1.MetricsService/IngestMetrics"
INTERACTIVE = "/airis.metrics.v1.MetricsService/ListMetrics"
CRITICAL = "/airis.alerts.v1.AlertService/AcknowledgeAlert"

ALERT = "alerts/0b7e4a52-6f0e-4d0c-8a55-1f3a2c9d7e10"

pytestmark = pytest.mark.timeout(90)


def encoded(request: bytes) -> str:
    return base64.b64encode(request).decode()


def load(times: float) -> list[Traffic]:
    """So many times what the server can do: a little that is critical, more that is interactive, the rest bulk."""
    # The important part stays what it is: it is less than the server can do.
    critical, interactive = 0.1 * CAPACITY, 0.3 * CAPACITY
    bulk = times * CAPACITY - critical - interactive
    return [
        Traffic(HEALTH, 10.0),
        Traffic(CRITICAL, critical, encoded(alerts_pb2.AcknowledgeAlertRequest(name=ALERT).SerializeToString())),
        Traffic(INTERACTIVE, interactive),
        Traffic(BULK, bulk, encoded(metrics_pb2.IngestMetricsRequest(request_id="once").SerializeToString())),
    ]


PHASES = (
    Phase("ordinary", 2.0, load(0.8)),
    Phase("full", 2.5, load(1.2)),
    Phase("overload", 5.0, load(3.0)),
    Phase("after", 3.0, load(0.5)),
)


@pytest.fixture(scope="module")
def server() -> Iterator[OverloadServer]:
    server = OverloadServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def run(server: OverloadServer) -> dict[str, Report]:
    """One run, with a report of each phase by name."""
    return {report.phase.name: report for report in offer(server.target, PHASES, timeout=DEADLINE_SECONDS)}


def answered(report: Report, *methods: str) -> list[Call]:
    """The calls of some methods that were admitted."""
    return [call for call in report.of(*methods) if call.code == "OK"]


def refused(report: Report, *methods: str) -> list[Call]:
    """The calls of some methods that were not."""
    return [call for call in report.of(*methods) if call.code != "OK"]


def test_the_methods_have_the_priorities_that_the_traffic_is_named_by() -> None:
    services = (metrics_pb2.DESCRIPTOR, alerts_pb2.DESCRIPTOR)
    priorities = {
        (policy := method_policy(method)).method: policy.priority
        for file in services
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert [priorities[method] for method in (CRITICAL, INTERACTIVE, BULK)] == list(Priority)


def test_three_times_what_the_server_can_do_is_really_sent(run: dict[str, Report]) -> None:
    report = run["overload"]
    sent = sum(call.at < report.phase.seconds for call in report.of())
    assert sent >= 2.7 * CAPACITY * report.phase.seconds


def test_nothing_is_refused_while_the_server_can_do_it(run: dict[str, Report]) -> None:
    assert run["ordinary"].codes() == {"OK": len(run["ordinary"].of())}


def test_goodput_stays_at_its_peak(run: dict[str, Report]) -> None:
    peak = max(run["ordinary"].goodput(), run["full"].goodput())
    assert run["overload"].goodput() >= 0.9 * peak


def test_what_is_admitted_is_answered_well_within_its_deadline(run: dict[str, Report]) -> None:
    codes = run["overload"].codes()
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
    assert percentile(answered(run["overload"])) < 0.8 * DEADLINE_SECONDS


def test_what_is_refused_is_refused_at_once_and_told_when_to_come_back(run: dict[str, Report]) -> None:
    calls = refused(run["overload"])
    assert len(calls) > CAPACITY
    assert all(call.retry_after is not None and 0 < call.retry_after <= 5 for call in calls)
    # By second: whatever else the machine does for a moment does not count.
    by_second: defaultdict[int, list[Call]] = defaultdict(list)
    for call in calls:
        by_second[int(call.at)].append(call)
    assert statistics.median(percentile(calls) for calls in by_second.values()) < 0.1


def test_health_checks_are_answered_throughout(run: dict[str, Report]) -> None:
    for report in run.values():
        assert report.codes(HEALTH) == {"OK": len(report.of(HEALTH))}
    assert percentile(run["overload"].of(HEALTH)) < 0.25


def test_bulk_is_shed_before_what_somebody_waits_for_and_what_is_critical_last(run: dict[str, Report]) -> None:
    critical, interactive, bulk = (run["overload"].admitted(method) for method in (CRITICAL, INTERACTIVE, BULK))
    assert critical == 1.0
    assert interactive > 0.9
    assert 0 < bulk < 0.4


def test_it_recovers_as_soon_as_the_overload_ends(run: dict[str, Report]) -> None:
    late = [call for call in run["after"].of() if call.at >= PHASES[-1].seconds - 1]
    assert sum(call.code == "OK" for call in late) >= 0.95 * len(late)
    assert percentile(late) < 2 * percentile(run["ordinary"].of()) + 0.1


def test_clients_that_try_again_make_it_no_worse(server: OverloadServer, run: dict[str, Report]) -> None:
    arrived = sum(server.arrived().values())
    (storm,) = offer(server.target, [Phase("storm", 3.0, load(3.0)[1:], wrapped=True)], timeout=DEADLINE_SECONDS)
    attempts = sum(server.arrived().values()) - arrived
    offered = len(storm.calls)
    assert attempts <= (1 + RETRY_SHARE) * offered + RETRY_RESERVE
    # They did try again: each refusal of bulk says when.
    assert attempts > offered
    # Generous: here the caller's own work counts too.
    assert storm.goodput() >= 0.5 * max(run["ordinary"].goodput(), run["full"].goodput())
