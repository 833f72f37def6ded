"""Deterministic OTLP requests as bytes: the same number gives the same bytes, and no two numbers share an item.

`payloads("metrics", base_ns)` gives requests of 1,000 points, `"logs"` of 1,000 records, `"traces"` of 512 spans. Time
advances with the number of the request from `base_ns`, which is in the past, so that what is sent is recent. A request
takes 50 to 200 microseconds to make.
"""

from __future__ import annotations

from typing import Protocol

from bench.payloads_calls import CallPayloads
from bench.payloads_logs import RECORDS, LogPayloads
from bench.payloads_metrics import METRIC_NAMES, POINTS, MetricPayloads
from bench.payloads_traces import SPANS, TracePayloads

__all__ = ["ITEMS", "METRIC_NAMES", "SERVICES", "Payloads", "base_before", "payloads"]

ITEMS = {"metrics": POINTS, "logs": RECORDS, "traces": SPANS}
"""Items of one request."""

SERVICES = TracePayloads.services
"""The `service.name` of every item; nothing but these payloads has them."""

_HOUR_NS = 3600 * 1_000_000_000


class Payloads(Protocol):
    """Requests of one signal.

    Attributes:
        items: Of each request.
        period: Requests `number` and `number + period` are about the same series, so that a sender of the latter should
            come after the former where a store wants order. 1 where order means nothing.
        step_ns: How much later the items of request `number + period` happened than those of `number`.
    """

    items: int
    period: int
    step_ns: int

    def request(self, number: int) -> bytes:
        """The serialised OTLP request of a number, 0 and up."""


def payloads(signal: str, base_ns: int, series: int = 10_000) -> Payloads:
    """The requests of a signal.

    Args:
        signal: "metrics", "logs", "traces", or "calls" for metrics of one point a request.
        base_ns: When the first item happened, in nanoseconds since 1970.
        series: How many series metrics have; a multiple of 1,000.
    """
    if signal == "metrics":
        return MetricPayloads(base_ns, series)
    if signal == "calls":
        return CallPayloads(base_ns)
    return LogPayloads(base_ns) if signal == "logs" else TracePayloads(base_ns)


def base_before(now_ns: int, hours: float = 6.0) -> int:
    """A base so long before a moment, at a whole minute."""
    return int((now_ns - hours * _HOUR_NS) // 60_000_000_000 * 60_000_000_000)
