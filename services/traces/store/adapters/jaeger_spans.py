"""Whose spans Jaeger has, and spans on their way to it and from it.

Jaeger does not know tenants as we do. Each resource that we write says whose its spans are in the attribute
`airis.tenant`, which no sender can set; what has another tenant's or none is never given to anybody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator

from opentelemetry.proto.trace.v1 import trace_pb2

from services.traces import otlp_spans
from services.traces.model import Span

TENANT = "airis.tenant"


def spans_of(tenant: str, part: trace_pb2.TracesData) -> Iterator[Span]:
    """The tenant's spans among some that Jaeger gave."""
    for resource_spans in part.resource_spans:
        of_resource = otlp_spans.values(resource_spans.resource.attributes)
        if of_resource.pop(TENANT, None) != tenant:
            continue
        service = str(of_resource.pop(otlp_spans.SERVICE, "") or otlp_spans.UNKNOWN_SERVICE)
        for scope_spans in resource_spans.scope_spans:
            inherited = {**of_resource, **otlp_spans.values(scope_spans.scope.attributes)}
            for each in scope_spans.spans:
                yield otlp_spans.span(each, service, inherited)


def unrepeated(spans: Iterable[Span]) -> list[Span]:
    """The spans by start time, each once: Jaeger keeps both copies when an insert is repeated.

    A call's two sides may share an id, so that alone does not make a copy.
    """
    found = {(span.span_id, span.kind, span.service_name, span.operation_name, span.start_ns): span for span in spans}
    return sorted(found.values(), key=lambda span: (span.start_ns, span.span_id))


async def by_trace(parts: AsyncIterator[trace_pb2.TracesData]) -> AsyncIterator[tuple[str, list[trace_pb2.TracesData]]]:
    """Joins the parts of each trace, which follow each other, and names the trace."""
    current, joined = "", list[trace_pb2.TracesData]()
    async for part in parts:
        trace_id = _trace_id(part)
        if joined and trace_id != current:
            yield current, joined
            joined = []
        if trace_id:
            current = trace_id
            joined.append(part)
    if joined:
        yield current, joined


def _trace_id(part: trace_pb2.TracesData) -> str:
    for resource_spans in part.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for each in scope_spans.spans:
                return str(each.trace_id.hex())
    return ""
