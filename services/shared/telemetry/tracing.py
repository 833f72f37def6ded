"""Which calls of a server are traced."""

from __future__ import annotations

from opentelemetry import trace

from resilience.grpc.measures import Measures


def traced() -> Measures:
    """Measures a server's calls, and traces all but OTLP's, whose spans would be sent as OTLP in turn."""
    return Measures(trace.get_tracer("airis.rpc"), untraced=("/opentelemetry.",))
