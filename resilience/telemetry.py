"""Tells the decisions of policies to OpenTelemetry. Without its SDK this does nothing and costs little."""

from __future__ import annotations

import threading

from opentelemetry import metrics, trace

from resilience.events import Event, Events

_MOST_SERIES = 2_000
_OTHER = "other"
_PLAIN = frozenset(("success", "failure"))


class Decisions:
    """Counts decisions and notes them on spans.

    The counter `resilience.decisions` has the attributes `policy`, `kind` and `method`, the policy's name. The current
    span gets an event `resilience.<policy>.<kind>` with the reason for each decision but a plain success or failure.

    Args:
        meter: Of the counter; None: the global one, also if that is set later.
        max_series: Combinations of attributes that are counted apart; the methods of further ones are "other".
    """

    def __init__(self, meter: metrics.Meter | None = None, *, max_series: int = _MOST_SERIES) -> None:
        self._counter = (meter or metrics.get_meter("resilience")).create_counter(
            "resilience.decisions", unit="{decision}", description="What policies decided about calls."
        )
        self._max_series = max_series
        self._lock = threading.Lock()
        self._attributes: dict[tuple[str, str, str], dict[str, str]] = {}

    def __call__(self, event: Event) -> None:
        """Tells of one decision."""
        known = self._attributes.get((event.policy, event.kind, event.name))
        self._counter.add(1, known or self._new_attributes(event))
        if event.kind in _PLAIN:
            return
        span = trace.get_current_span()
        if span.is_recording():
            facts = {f"resilience.{name}": value for name, value in event.attributes.items()}
            if event.reason:
                facts["resilience.reason"] = event.reason
            facts["resilience.name"] = event.name
            span.add_event(f"resilience.{event.policy}.{event.kind}", facts)

    def _new_attributes(self, event: Event) -> dict[str, str]:
        with self._lock:
            if len(self._attributes) >= self._max_series:
                return {"policy": event.policy, "kind": event.kind, "method": _OTHER}
            attributes = {"policy": event.policy, "kind": event.kind, "method": event.name}
            self._attributes[event.policy, event.kind, event.name] = attributes
            return attributes


_decisions = Decisions()


def observe(events: Events, decisions: Decisions = _decisions) -> None:
    """Has the decisions of a policy counted and noted on spans from now on.

    Args:
        events: The policy's.
        decisions: What tells them; the default goes to the global providers.
    """
    events.subscribe(decisions)
