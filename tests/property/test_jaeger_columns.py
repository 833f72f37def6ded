"""Spans on their way to Jaeger: written as columns they are the messages that they are one by one."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import replace
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2
from trace_world import CONFIG

from services.traces import convert, otlp_spans
from services.traces.ingest import Checker
from services.traces.model import Event, Link, Span, SpanColumns, SpanKind, StatusCode
from services.traces.store.adapters import jaeger_columns, jaeger_export, jaeger_spans

NOW = 1_790_000_000_000_000_000
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
KEYS = st.text(string.ascii_lowercase + "._", min_size=1, max_size=4) | st.sampled_from(["event", otlp_spans.END])
PLAIN = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans())
VALUES = PLAIN | st.none() | st.binary(max_size=3) | st.lists(PLAIN, max_size=2)
TAGS = st.dictionaries(KEYS, st.one_of(PLAIN, PLAIN, PLAIN, VALUES), max_size=3)
IDS = st.integers(1, 2**64 - 1)


@st.composite
def made(draw: Any) -> Span:
    start = NOW - draw(st.integers(0, 10**12))
    return Span(
        f"{draw(IDS):032x}",
        f"{draw(IDS):016x}",
        draw(st.just("") | IDS.map("{:016x}".format)),
        draw(TEXTS) or "op",
        draw(st.sampled_from(["web", "cart", "결제"])),
        start,
        draw(st.none() | st.integers(0, 3).map(lambda more: start + more)),
        draw(st.sampled_from(SpanKind)),
        draw(st.sampled_from(StatusCode)),
        draw(TEXTS),
        draw(TAGS),
        tuple(Event(draw(st.integers(0, NOW)), draw(TAGS)) for _ in range(draw(st.integers(0, 2)))),
        tuple(Link(f"{draw(IDS):032x}", f"{draw(IDS):016x}", draw(TAGS)) for _ in range(draw(st.integers(0, 2)))),
    )


def columns(spans: list[Span], tenant: str) -> SpanColumns:
    request = trace_service_pb2.ExportTraceServiceRequest()
    for span in spans:
        added = request.resource_spans.add()
        added.resource.attributes.extend(otlp_spans.key_values({"service.name": span.service_name}))
        message = added.scope_spans.add().spans.add()
        message.CopyFrom(otlp_spans.message(replace(span, end_ns=span.start_ns + 1)))
        message.end_time_unix_nano = span.end_ns or 0
        if otlp_spans.END in span.tags:
            message.attributes.extend(otlp_spans.key_values({otlp_spans.END: span.tags[otlp_spans.END]}))
    decoded = convert.read(convert.OTLP, [request.SerializeToString()]).items
    checked = Checker(CONFIG).check(decoded, tenant, NOW)
    assert not checked.rejected
    return checked.columns


def normal(span: Span) -> str:
    """Without the order of keys."""
    return repr(
        replace(
            span,
            tags=sorted(span.tags.items(), key=lambda tag: tag[0]),
            events=tuple((e.timestamp_ns, sorted(e.fields.items(), key=lambda tag: tag[0])) for e in span.events),
            links=tuple((n.trace_id, n.span_id, sorted(n.tags.items(), key=lambda tag: tag[0])) for n in span.links),
        )
    )


def read(payloads: list[bytes], tenant: str) -> Counter[str]:
    parts = [trace_pb2.TracesData.FromString(payload) for payload in payloads]
    return Counter(normal(span) for part in parts for span in jaeger_spans.spans_of(tenant, part))


@settings(max_examples=40, deadline=None)
@given(st.lists(made(), min_size=1, max_size=8), st.lists(made(), max_size=3), st.sampled_from([400, 2_000, 10**6]))
def test_what_is_written_reads_back_as_the_spans_of_each_tenant(
    mine: list[Span], theirs: list[Span], max_bytes: int
) -> None:
    tables = [columns(spans, tenant).spans for spans, tenant in ((mine, "mine"), (theirs, "theirs")) if spans]
    # A slice that does not begin at the first row.
    table = pa.concat_tables([tables[0].slice(0, 1), *tables]).slice(1)
    largest = max(len(jaeger_export._one_by_one(table.slice(at, 1))) for at in range(table.num_rows))
    payloads = list(jaeger_export.requests(table, max(max_bytes, largest)))
    assert all(len(payload) <= max(max_bytes, largest) for payload in payloads)
    for spans, tenant in ((mine, "mine"), (theirs, "theirs")):
        expected = (
            replace(span, tags={key: item for key, item in span.tags.items() if key != otlp_spans.END})
            for span in spans
        )
        assert read(payloads, tenant) == Counter(map(normal, expected))


@settings(max_examples=25, deadline=None)
@given(st.lists(made(), min_size=1, max_size=5))
def test_columns_write_all_but_what_has_lists_maps_bytes_nulls_or_the_mark(spans: list[Span]) -> None:
    def is_plain(span: Span) -> bool:
        maps = [span.tags, *(event.fields for event in span.events), *(link.tags for link in span.links)]
        return otlp_spans.END not in span.tags and all(
            isinstance(value, str | int | float) for each in maps for value in each.values()
        )

    assert jaeger_columns.writable(columns(spans, "t").spans).to_pylist() == [is_plain(span) for span in spans]
