"""Jaeger v2 with its traces in memory, or in badger on disk. It acknowledges what waits in its batch processor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import grpc
import yaml
from google.protobuf.timestamp_pb2 import Timestamp
from jaeger.api_v3.query_service_pb2 import FindTracesRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from bench.payloads import SERVICES
from bench.peers.ask import metric, wait_until
from bench.peers.peer import Peer
from bench.target import DIRECTLY, Endpoint, TargetError, otlp_grpc
from deploy.servers import jaeger
from deploy.servers.server import Server

# More than it gets in a run; its memory is taken as traces come.
MAX_TRACES = 4_000_000
_FIND_TRACES = "/jaeger.api_v3.QueryService/FindTraces"
_PAST_SECONDS = 3 * 24 * 3600
_DEADLINE_SECONDS = 300.0
_QUEUE_SECONDS = 60.0


class Jaeger(Peer):
    """Takes OTLP over gRPC; its configuration is the one that it comes with, but for the store and the ports.

    Attributes:
        backend: What stands below `jaeger_storage.backends.<name>`.
    """

    signals = frozenset({"traces"})
    server_class = jaeger.Jaeger
    backend: ClassVar[dict[str, Any]]

    def make_server(self, directory: Path) -> Server:
        """With this configuration."""
        return jaeger.Jaeger(directory, config={"file": yaml.safe_dump(_configuration(self.backend), sort_keys=False)})

    def endpoint(self, signal: str) -> Endpoint:
        """Its OTLP receiver."""
        return otlp_grpc(signal, self.server.address_of("otlp_grpc"))

    def stored(self, signal: str) -> int:
        """Reads all traces over its query API and counts their spans, once its queue is empty."""
        wait_until(self._queue_is_empty, _QUEUE_SECONDS)
        request = FindTracesRequest()
        now = int(time.time())
        # Each trace of ours has a span of the first service.
        request.query.service_name = SERVICES[0]
        request.query.search_depth = MAX_TRACES
        request.query.raw_traces = True
        request.query.start_time_min.CopyFrom(Timestamp(seconds=now - _PAST_SECONDS))
        request.query.start_time_max.CopyFrom(Timestamp(seconds=now + 3600))
        options = (*DIRECTLY, ("grpc.max_receive_message_length", -1))
        with grpc.insecure_channel(self.server.address_of("query_grpc"), options) as channel:
            find = channel.unary_stream(_FIND_TRACES, FindTracesRequest.SerializeToString, TracesData.FromString)
            try:
                return sum(span_count(data) for data in find(request, timeout=_DEADLINE_SECONDS))
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return 0
                raise TargetError(f"{self.name} cannot count: {error.code().name}: {error.details()}") from error

    def _queue_is_empty(self) -> bool:
        address = self.server.address_of("metrics")
        done = metric(address, "otelcol_exporter_sent_spans_total")
        failed = metric(address, "otelcol_exporter_send_failed_spans_total")
        return done + failed >= metric(address, "otelcol_receiver_accepted_spans_total")


class JaegerInMemory(Jaeger):
    """Its traces are in memory."""

    name = "Jaeger 2.13, memory"
    backend: ClassVar[dict[str, Any]] = {"memory": {"max_traces": MAX_TRACES}}


class JaegerOnDisk(Jaeger):
    """Its traces are in badger, whose writes are not synced, as is its default."""

    name = "Jaeger 2.13, badger"
    backend: ClassVar[dict[str, Any]] = {
        "badger": {
            "directories": {"keys": "badger/keys", "values": "badger/values"},
            "ephemeral": False,
            "ttl": {"spans": "48h"},
        }
    }


def span_count(data: TracesData) -> int:
    """How many spans an answer has."""
    return sum(len(scope.spans) for resource in data.resource_spans for scope in resource.scope_spans)


def _configuration(backend: dict[str, Any]) -> dict[str, Any]:
    def local(port: str) -> dict[str, str]:
        return {"endpoint": f"127.0.0.1:${{port:{port}}}"}

    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": "${port:metrics}"}}}}
    return {
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {"metrics": {"level": "basic", "readers": [reader]}, "logs": {"level": "warn"}},
        },
        "extensions": {
            "healthcheckv2": {"use_v2": True, "http": local("health")},
            "jaeger_query": {
                "storage": {"traces": "ours"},
                "grpc": local("query_grpc"),
                "http": local("query_http"),
            },
            "jaeger_storage": {"backends": {"ours": backend}},
        },
        "receivers": {"otlp": {"protocols": {"grpc": local("otlp_grpc")}}},
        "processors": {"batch": {}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "ours"}},
    }
