"""The two connections to a Jaeger v2: OTLP/gRPC to write, its query API (`jaeger.api_v3`) to read.

Its RPCs have no policy of ours: every call has a deadline, and who calls repeats it or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, NoReturn

import grpc
from jaeger.api_v3 import query_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    FailedPreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)
from services.traces.config import JaegerConfig

_QUERY = "/jaeger.api_v3.QueryService/"
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_CHECK_SECONDS = 2.0
_RETRY_SECONDS = 1.0
# A whole trace is one message of its answers.
_MAX_TRACE_BYTES = 256 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_TRACE_BYTES),
    # What was told to be too large comes back as an error of the call, not of the connection.
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class TooLargeError(ResourceExhaustedError):
    """A message is larger than Jaeger takes; smaller ones may pass."""

    default_reason = "SIZE_LIMIT_EXCEEDED"


class Jaeger:
    """The connections; an `Engine`.

    Args:
        config: Where they lead.
    """

    def __init__(self, config: JaegerConfig) -> None:
        self._config = config
        self._writes: Any = None
        self._reads: Any = None

    async def open(self) -> None:
        """Connects. Raises `UnavailableError` if one of the two does not answer."""
        if self._writes is None:
            # Channels belong to the event loop that they are made in.
            self._writes = grpc.aio.insecure_channel(self._config.otlp_target, options=_OPTIONS)
            self._reads = grpc.aio.insecure_channel(self._config.query_target, options=_OPTIONS)
        await self.check()

    async def check(self) -> None:
        """Raises `AirisError` with the reason if it does not take or give spans now."""
        try:
            await asyncio.gather(self.export(b"", _CHECK_SECONDS), self.service_names(_CHECK_SECONDS))
        except DeadlineExceededError as error:
            raise UnavailableError(f"Jaeger did not answer within {_CHECK_SECONDS:g} s.") from error

    async def close(self) -> None:
        """Lets go of both."""
        channels, self._writes, self._reads = (self._writes, self._reads), None, None
        await asyncio.gather(*(channel.close(None) for channel in channels if channel is not None))

    async def export(self, request: bytes, timeout: float) -> int:
        """Sends spans.

        Args:
            request: An ExportTraceServiceRequest.
            timeout: Seconds.

        Returns:
            How many it refused.

        Raises:
            TooLargeError: The request is larger than it takes.
            AirisError: They are not stored, or it is not known whether they are.
        """
        call = self._connected(self._writes).unary_unary(
            _EXPORT, None, trace_service_pb2.ExportTraceServiceResponse.FromString
        )
        try:
            answer = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            _raise(error, "OTLP receiver", self._config.otlp_target)
        return int(answer.partial_success.rejected_spans)

    async def service_names(self, timeout: float) -> list[str]:
        """The services of all tenants."""
        call = self._connected(self._reads).unary_unary(
            f"{_QUERY}GetServices",
            query_service_pb2.GetServicesRequest.SerializeToString,
            query_service_pb2.GetServicesResponse.FromString,
        )
        try:
            answer = await call(query_service_pb2.GetServicesRequest(), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            _raise(error, "query API", self._config.query_target)
        return list(answer.services)

    def trace(self, trace_id: str, timeout: float) -> AsyncGenerator[trace_pb2.TracesData, None]:
        """The spans of a trace, of whichever tenant, in parts; none if it is unknown."""
        request = query_service_pb2.GetTraceRequest(trace_id=trace_id, raw_traces=True)
        return self._stream("GetTrace", request, query_service_pb2.GetTraceRequest.SerializeToString, timeout)

    def find(
        self, query: query_service_pb2.TraceQueryParameters, timeout: float
    ) -> AsyncGenerator[trace_pb2.TracesData, None]:
        """Whole traces one after the other, each in one part or several; in no certain order."""
        request = query_service_pb2.FindTracesRequest(query=query)
        return self._stream("FindTraces", request, query_service_pb2.FindTracesRequest.SerializeToString, timeout)

    async def _stream(
        self, method: str, request: Any, serialize: Callable[[Any], bytes], timeout: float
    ) -> AsyncGenerator[trace_pb2.TracesData, None]:
        make = self._connected(self._reads).unary_stream(
            f"{_QUERY}{method}", serialize, trace_pb2.TracesData.FromString
        )
        call = make(request, timeout=timeout)
        try:
            async for part in call:
                yield part
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                _raise(error, "query API", self._config.query_target)
        finally:
            call.cancel()

    @staticmethod
    def _connected(channel: Any) -> Any:
        if channel is None:
            raise UnavailableError("The connection to Jaeger is not open.", retry_after=_RETRY_SECONDS)
        return channel


def _raise(error: grpc.aio.AioRpcError, part: str, target: str) -> NoReturn:
    details = (error.details() or "no reason given")[:300]
    raise _translated(error.code(), f"Jaeger's {part} at {target}", details) from error


def _translated(code: grpc.StatusCode, where: str, details: str) -> AirisError:
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceededError(f"{where} did not answer in time.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in details:
            return TooLargeError(f"{where}: {details}.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhaustedError(f"{where} is at its limit: {details}.", retry_after=_RETRY_SECONDS)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED | grpc.StatusCode.ABORTED:
            return UnavailableError(f"{where} is not available: {details}.", retry_after=_RETRY_SECONDS)
    return FailedPreconditionError(f"{where} refused the call with {code.name}: {details}.")
