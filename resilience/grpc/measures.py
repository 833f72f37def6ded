"""What is measured of every call that a server answers: how long it took, and its span in a trace.

The span is made here and not by an interceptor of its own, which would cost a call as much as all policies together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from google.rpc import code_pb2
from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from resilience import deadline

_PARENT = "traceparent"
# As OpenTelemetry's semantic conventions for gRPC servers: other codes are the caller's doing.
_SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class Measures:
    """Measures the calls of one server.

    Args:
        tracer: Makes their spans; None: they have none of ours.
        untraced: The beginnings of the paths of methods that have none.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        tracer: trace.Tracer | None = None,
        untraced: tuple[str, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer = tracer
        self._untraced = untraced
        self._clock = clock
        self._duration = metrics.get_meter("airis.rpc").create_histogram(
            "rpc.server.duration", unit="ms", description="How long calls took, by method and status code."
        )
        self._attributes: dict[tuple[str, str], Mapping[str, str]] = {}

    def begin(self, method: str, headers: Iterable[tuple[str, str | bytes]]) -> MeasuredCall:
        """Begins to measure a call, whose span is the current one from now on.

        Args:
            method: Its path.
            headers: Its metadata, which may name the span that it is part of.
        """
        if self._tracer is None or method.startswith(self._untraced):
            return MeasuredCall(self, method, self._clock(), trace.get_current_span(), None)
        parent = None
        if any(key == _PARENT for key, _ in headers):
            parent = propagate.extract({key: value for key, value in headers if isinstance(value, str)})
        service, _, name = method[1:].partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        token = context.attach(trace.set_span_in_context(span, parent))
        return MeasuredCall(self, method, self._clock(), span, token)

    def ended(self, method: str, began: float, code: str) -> None:
        """Counts a call that has ended."""
        key = (method, code)
        if key not in self._attributes:
            # As many as there are methods and codes.
            self._attributes[key] = {"rpc.method": method, "rpc.grpc.status_code": code}
        self._duration.record((self._clock() - began) * 1000, self._attributes[key])


class MeasuredCall:
    """A call that is under way.

    Args:
        measures: Of the server.
        method: Its path.
        began: Monotonic seconds.
        span: Its span, or that of whoever made one.
        token: Ends that the span is current; None: it is not ours to end.
    """

    __slots__ = ("_began", "_measures", "_method", "_span", "_token")

    def __init__(self, measures: Measures, method: str, began: float, span: Span, token: object | None) -> None:
        self._measures = measures
        self._method = method
        self._began = began
        self._span = span
        self._token = token

    def admitted(self, limit: float | None) -> None:
        """Notes what the deadline leaves at entry: with what it leaves at exit, a trace tells who spent it.

        Args:
            limit: Seconds; None: there is no deadline.
        """
        if limit is not None and self._span.is_recording():
            self._span.set_attribute("deadline.entry_ms", round(limit * 1000, 3))

    def end(self, code: str, *, detach: bool = True) -> None:
        """Counts the call, and ends its span.

        Args:
            code: How it ended, as a name of `google.rpc.Code`.
            detach: Whether what runs next in this context is not part of the call. False for a generator, which may be
                closed in another one.
        """
        span = self._span
        if span.is_recording():
            left = deadline.remaining()
            if left is not None:
                span.set_attribute("deadline.exit_ms", round(left * 1000, 3))
            if self._token is not None:
                span.set_attribute("rpc.grpc.status_code", code_pb2.Code.Value(code))
                if code in _SERVER_FAULTS:
                    span.set_status(Status(StatusCode.ERROR, code))
        if self._token is not None:
            span.end()
            if detach:
                context.detach(self._token)  # type: ignore[arg-type]
        self._measures.ended(self._method, self._began, code)
