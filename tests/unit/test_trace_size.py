"""A trace that is larger than an answer may be is refused with a reason, whatever store it is in."""

from __future__ import annotations

import pytest
from airis.traces.v1 import traces_pb2

from services.shared.errors import ResourceExhaustedError
from services.traces.model import Span
from services.traces.query import TraceQuery
from services.traces.rpc import TraceServicer

NOW = 1_790_000_000_000_000_000
TRACE = "a" * 32
MIB = 2**20


class Reader:
    """Has one trace of spans with a MiB of text each."""

    def __init__(self, spans: int) -> None:
        self._spans = spans

    async def trace(self, tenant: str, trace_id: str, limit: int, timeout: float) -> list[Span]:
        tags = {"text": "x" * MIB}
        return [Span(TRACE, f"{n + 1:016x}", "", "op", "s", NOW, NOW, tags=tags) for n in range(self._spans)]


def servicer(spans: int) -> TraceServicer:
    return TraceServicer(None, TraceQuery(Reader(spans)), lambda: NOW)  # type: ignore[arg-type]


async def test_a_trace_that_fits_into_an_answer_is_given_whole() -> None:
    found = await servicer(31).GetTrace(traces_pb2.GetTraceRequest(trace_id=TRACE), None)
    assert len(found.spans) == 31


async def test_a_trace_that_is_larger_than_an_answer_is_refused_with_what_to_do() -> None:
    with pytest.raises(ResourceExhaustedError, match=r"32 MiB.* fewer and shorter tags") as refused:
        await servicer(32).GetTrace(traces_pb2.GetTraceRequest(trace_id=TRACE), None)
    assert refused.value.reason == "RESULT_TOO_LARGE"
