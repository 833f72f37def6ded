"""Which calls of a server are traced, and how a trace goes from process to process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from resilience.grpc.measures import Measures

_HEADER = "traceparent"
_propagator = TraceContextTextMapPropagator()


def traced() -> Measures:
    """Measures a server's calls, and traces all but OTLP's, whose spans would be sent as OTLP in turn."""
    return Measures(trace.get_tracer("airis.rpc"), untraced=("/opentelemetry.",))


def traceparent() -> str:
    """The current trace, as W3C writes it; empty if there is none."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(_HEADER, "")


@contextmanager
def within_trace(parent: str) -> Iterator[None]:
    """What is done here belongs to a trace that was begun in another process; empty: to none."""
    if not parent:
        yield
        return
    token = context.attach(_propagator.extract({_HEADER: parent}))
    try:
        yield
    finally:
        context.detach(token)
