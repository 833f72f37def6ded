"""What the canary finds, as metrics: on a Prometheus endpoint of its own, and in the platform that it watches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from airis.client.canary.objectives import objective
from airis.client.canary.record import Record
from opentelemetry.metrics import CallbackOptions, Meter, Observation

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)


class MeterMeasures:
    """Gives what happens to OpenTelemetry.

    Args:
        meter: Where to.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        options: dict[str, Any] = {"explicit_bucket_boundaries_advisory": _SECONDS}
        self._rounds = meter.create_counter("airis.canary.rounds", "{round}", "Rounds by outcome")
        self._visible = meter.create_histogram(
            "airis.canary.visible.duration", "s", "From the begin of a write until a read shows the item", **options
        )
        self._calls = meter.create_histogram(
            "airis.canary.call.duration", "s", "Calls, by operation and status code", **options
        )
        self._found = {
            what: meter.create_counter(f"airis.canary.{what}", "{item}", text)
            for what, text in (
                ("late", "Items that were seen, but not in time"),
                ("missing", "Items that were acknowledged and are not there"),
                ("doubled", "Items of which there is more than one"),
                ("unverified", "Items that nobody could look for once more"),
            )
        }

    def start(self, signals: Sequence[str]) -> None:
        """Begins at zero: a counter that first appears with its first finding shows no increase."""
        for signal in signals:
            for counter in self._found.values():
                counter.add(0, {"signal": signal})
            for outcome in ("ok", "failed"):
                self._rounds.add(0, {"signal": signal, "outcome": outcome})

    def observe(self, records: Sequence[Record]) -> None:
        """Has the availability of the last five minutes told as well, and how fast that burns the budget."""

        def availability(_: CallbackOptions) -> Iterable[Observation]:
            for record in records:
                yield Observation(record.recent_availability(), {"signal": record.signal})

        def burn(_: CallbackOptions) -> Iterable[Observation]:
            for record in records:
                rate = objective(record.signal).burn(record.recent_availability())
                yield Observation(rate, {"signal": record.signal})

        self._meter.create_observable_gauge(
            "airis.canary.availability", [availability], "1", "Share of good rounds in the last five minutes"
        )
        self._meter.create_observable_gauge(
            "airis.canary.burn", [burn], "1", "How many times as fast as allowed the budget of failures is used up"
        )

    def called(self, signal: str, operation: str, code: str, seconds: float) -> None:
        """As of `record.Measures`."""
        self._calls.record(seconds, {"signal": signal, "operation": operation, "code": code})

    def ended(self, signal: str, outcome: str) -> None:
        """As of `record.Measures`."""
        self._rounds.add(1, {"signal": signal, "outcome": outcome})

    def seen(self, signal: str, seconds: float) -> None:
        """As of `record.Measures`."""
        self._visible.record(seconds, {"signal": signal})

    def found(self, signal: str, what: str, count: int) -> None:
        """As of `record.Measures`."""
        self._found[what].add(count, {"signal": signal})
