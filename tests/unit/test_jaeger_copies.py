"""Traces that Jaeger has in many copies are read whole, or refused: never cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from services.shared.errors import ResourceExhaustedError
from services.traces.config import JaegerConfig
from services.traces.store.adapters.jaeger import JaegerTraceStore
from services.traces.store.adapters.jaeger_client import Jaeger
from services.traces.store.adapters.jaeger_spans import TENANT

TRACE = "01" * 16
SPANS = 500
NOW = 1_790_000_000_000_000_000


class Copies(Jaeger):
    """Has one trace, each tenth of it nine times in a row, as a store sorted by time gives it."""

    def __init__(self) -> None:
        pass

    async def trace(self, trace_id: str, timeout: float) -> AsyncGenerator[trace_pb2.TracesData, None]:
        for first in range(0, SPANS, SPANS // 10):
            for _ in range(9):
                yield part(first, SPANS // 10)


class Endless(Jaeger):
    """Has one trace whose large spans never end."""

    def __init__(self) -> None:
        self.bytes = 0

    async def trace(self, trace_id: str, timeout: float) -> AsyncGenerator[trace_pb2.TracesData, None]:
        large = part(0, 1)
        large.resource_spans[0].resource.attributes.add(key="text").value.string_value = "x" * 2**20
        while True:
            self.bytes += large.ByteSize()
            yield large


def part(first: int, count: int) -> trace_pb2.TracesData:
    made = trace_pb2.TracesData()
    resource = made.resource_spans.add()
    for key, value in (("service.name", "web"), (TENANT, "default")):
        resource.resource.attributes.add(key=key).value.string_value = value
    spans = resource.scope_spans.add().spans
    for number in range(first, first + count):
        spans.add(
            trace_id=bytes.fromhex(TRACE),
            span_id=(number + 1).to_bytes(8, "big"),
            name="op",
            kind=1,
            start_time_unix_nano=NOW + number,
            end_time_unix_nano=NOW + number + 5,
        )
    return made


@pytest.mark.parametrize("limit", [SPANS, 2 * SPANS])
async def test_a_trace_of_many_copies_is_read_whole(limit: int) -> None:
    spans = await JaegerTraceStore(Copies(), JaegerConfig()).trace("default", TRACE, limit, 10)
    assert [span.start_ns for span in spans] == [NOW + number for number in range(SPANS)]


async def test_a_trace_of_many_copies_and_too_many_spans_is_refused() -> None:
    with pytest.raises(ResourceExhaustedError) as caught:
        await JaegerTraceStore(Copies(), JaegerConfig()).trace("default", TRACE, SPANS - 1, 10)
    assert caught.value.reason == "RESULT_TOO_LARGE"


async def test_a_trace_of_few_spans_and_too_many_bytes_is_refused_before_all_of_it_is_read() -> None:
    jaeger = Endless()
    with pytest.raises(ResourceExhaustedError, match="128 MiB") as caught:
        await JaegerTraceStore(jaeger, JaegerConfig()).trace("default", TRACE, SPANS, 10)
    assert caught.value.reason == "RESULT_TOO_LARGE"
    assert jaeger.bytes < 130 * 2**20
