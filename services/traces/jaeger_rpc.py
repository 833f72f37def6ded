"""Our traces as the remote storage of a Jaeger v2 (`jaeger.storage.v2`), so that its interface and API show them.

Jaeger writes over OTLP, which `rpc.py` takes. Whose traces it reads and writes, the token says that it is told to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from jaeger.storage.v2 import dependency_storage_pb2, trace_storage_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.shared.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from services.shared.rpc.context import Context, remaining, tenant
from services.traces import jaeger_query
from services.traces.model import Span, TraceSummary
from services.traces.query import TraceQuery

logger = structlog.get_logger(__name__)

_PAGE = 1_000
_MAX_NAMES = 20_000
_MAX_TRACE_IDS = 1_500
_AHEAD = 4


class JaegerTraceServicer:
    """Answers `jaeger.storage.v2.TraceReader`.

    Args:
        query: Answers questions.
        retention_days: How long spans are kept; Jaeger asks for names without a range.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, query: TraceQuery, retention_days: int, clock: Callable[[], int]) -> None:
        self._query = query
        self._retention_days = retention_days
        self._clock = clock

    async def GetTraces(
        self, request: trace_storage_pb2.GetTracesRequest, context: Context
    ) -> AsyncIterator[trace_pb2.TracesData]:
        if len(request.query) > _MAX_TRACE_IDS:
            raise InvalidArgumentError(f"At most {_MAX_TRACE_IDS} traces can be asked for at once.")
        for trace_id in [jaeger_query.trace_id(each.trace_id) for each in request.query]:
            try:
                spans = await self._query.trace(tenant(), trace_id, remaining())
            except NotFoundError:
                continue
            for part in jaeger_query.parts(spans):
                yield part

    async def GetServices(
        self, request: trace_storage_pb2.GetServicesRequest, context: Context
    ) -> trace_storage_pb2.GetServicesResponse:
        start, end = jaeger_query.retained(self._clock(), self._retention_days)
        names: list[str] = []
        while len(names) < _MAX_NAMES:
            after = names[-1] if names else ""
            page = await self._query.services(tenant(), start, end, after, _PAGE, remaining())
            names += [each.service for each in page]
            if len(page) < _PAGE:
                return trace_storage_pb2.GetServicesResponse(services=names)
        raise _too_many("services")

    async def GetOperations(
        self, request: trace_storage_pb2.GetOperationsRequest, context: Context
    ) -> trace_storage_pb2.GetOperationsResponse:
        start, end = jaeger_query.retained(self._clock(), self._retention_days)
        kind = jaeger_query.span_kind(request.span_kind)
        answer, after, seen = trace_storage_pb2.GetOperationsResponse(), ("", 0), 0
        while seen < _MAX_NAMES:
            page = await self._query.operations(tenant(), request.service, start, end, after, _PAGE, remaining())
            for each in page:
                if kind is None or each.kind is kind:
                    answer.operations.add(name=each.operation, span_kind=each.kind.name.lower())
            seen += len(page)
            if len(page) < _PAGE:
                return answer
            after = (page[-1].operation, int(page[-1].kind))
        raise _too_many("operations")

    async def FindTraces(
        self, request: trace_storage_pb2.FindTracesRequest, context: Context
    ) -> AsyncIterator[trace_pb2.TracesData]:
        owner = tenant()
        found = await self._search(request)

        async def whole(trace: TraceSummary) -> list[Span]:
            try:
                return await self._query.trace(owner, trace.trace_id, remaining())
            except NotFoundError:
                return []
            except ResourceExhaustedError as error:
                # The others are of use without it; asked for alone, Jaeger is told why it is not there.
                logger.warning("trace_left_out", trace_id=trace.trace_id, error=error.message)
                return []

        for begin in range(0, len(found), _AHEAD):
            for spans in await asyncio.gather(*map(whole, found[begin : begin + _AHEAD])):
                for part in jaeger_query.parts(spans):
                    yield part

    async def FindTraceIDs(
        self, request: trace_storage_pb2.FindTracesRequest, context: Context
    ) -> trace_storage_pb2.FindTraceIDsResponse:
        found = await self._search(request)
        return trace_storage_pb2.FindTraceIDsResponse(trace_ids=map(jaeger_query.found, found))

    async def _search(self, request: trace_storage_pb2.FindTracesRequest) -> list[TraceSummary]:
        wanted = jaeger_query.search(tenant(), request.query, self._clock(), self._retention_days)
        return await self._query.search(wanted, remaining())


class DependencyServicer:
    """Answers `jaeger.storage.v2.DependencyReader`.

    Args:
        query: Answers questions.
        retention_days: How long calls between services are kept.
        clock: Nanoseconds since 1970.
    """

    def __init__(self, query: TraceQuery, retention_days: int, clock: Callable[[], int]) -> None:
        self._query = query
        self._retention_days = retention_days
        self._clock = clock

    async def GetDependencies(
        self, request: dependency_storage_pb2.GetDependenciesRequest, context: Context
    ) -> dependency_storage_pb2.GetDependenciesResponse:
        start, end = jaeger_query.time_range(request.start_time, request.end_time, self._clock(), self._retention_days)
        found = await self._query.service_map(tenant(), start, end, remaining())
        return jaeger_query.dependencies(found.edges)


def _too_many(what: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(f"There are more than {_MAX_NAMES} {what}.", reason="RESULT_TOO_LARGE")
