"""What OpenTelemetry is told of the decisions of policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fakes.clock import FakeClock
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilience.circuit_breaker import BreakerSettings, CircuitBreaker
from resilience.errors import CircuitOpenError
from resilience.events import Events
from resilience.telemetry import Decisions, observe


class Telemetry:
    """Providers of the test's own."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        self.meter = MeterProvider([self._reader]).get_meter("test")
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = tracers.get_tracer("test")

    def counts(self) -> dict[tuple[Any, ...], float]:
        """The counter by policy, kind and method."""
        data = self._reader.get_metrics_data()
        (metric,) = [
            metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]
        assert metric.name == "resilience.decisions"
        for point in metric.data.data_points:
            assert set(point.attributes) == {"policy", "kind", "method"}
        return {
            tuple(point.attributes[key] for key in ("policy", "kind", "method")): point.value
            for point in metric.data.data_points
        }

    def span_events(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The events of the ended spans."""
        return [
            (event.name, dict(event.attributes)) for span in self._spans.get_finished_spans() for event in span.events
        ]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def test_each_decision_is_counted_by_policy_kind_and_method(telemetry: Telemetry) -> None:
    breaker = CircuitBreaker("/a.B/C", BreakerSettings(consecutive_failures=2), clock=FakeClock())
    observe(breaker.events, Decisions(telemetry.meter))
    breaker.enter().succeed()
    for _ in range(2):
        breaker.enter().fail(KeyError())
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    assert telemetry.counts() == {
        ("circuit_breaker", "success", "/a.B/C"): 1,
        ("circuit_breaker", "failure", "/a.B/C"): 2,
        ("circuit_breaker", "open", "/a.B/C"): 1,
        ("circuit_breaker", "rejected", "/a.B/C"): 1,
    }


def test_the_current_span_says_what_was_decided_and_why_but_not_plain_outcomes(telemetry: Telemetry) -> None:
    breaker = CircuitBreaker("/a.B/C", BreakerSettings(consecutive_failures=1), clock=FakeClock())
    observe(breaker.events, Decisions(telemetry.meter))
    with telemetry.tracer.start_as_current_span("call"):
        breaker.enter().succeed()
        breaker.enter().fail()
        with pytest.raises(CircuitOpenError):
            breaker.enter()
    assert telemetry.span_events() == [
        (
            "resilience.circuit_breaker.open",
            {"resilience.name": "/a.B/C", "resilience.reason": "1 failures in a row"},
        ),
        (
            "resilience.circuit_breaker.rejected",
            {"resilience.name": "/a.B/C", "resilience.reason": "the breaker is open"},
        ),
    ]


def test_the_facts_of_an_event_stand_on_the_span_and_not_in_the_metric(telemetry: Telemetry) -> None:
    events = Events("retry", "/a.B/C")
    observe(events, Decisions(telemetry.meter))
    with telemetry.tracer.start_as_current_span("call"):
        events.emit("retry", "UNAVAILABLE", attempt=2, delay=0.5)
    ((name, attributes),) = telemetry.span_events()
    assert name == "resilience.retry.retry"
    assert attributes["resilience.attempt"] == 2
    assert attributes["resilience.delay"] == 0.5
    assert telemetry.counts() == {("retry", "retry", "/a.B/C"): 1}


def test_too_many_methods_are_counted_together(telemetry: Telemetry) -> None:
    decisions = Decisions(telemetry.meter, max_series=3)
    for number in range(10):
        events = Events("retry", f"method {number}")
        observe(events, decisions)
        events.emit("retry")
        events.emit("retry")
    counts = telemetry.counts()
    assert len(counts) == 4
    assert counts["retry", "retry", "other"] == 14


def test_without_an_sdk_and_without_a_span_nothing_happens() -> None:
    events = Events("retry", "/a.B/C")
    observe(events)
    events.emit("retry", "UNAVAILABLE")
