"""The questions to the peers, in each one's own language."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import grpc
from jaeger.api_v3.query_service_pb2 import FindTracesRequest, GetTraceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from bench.peers import questions as asked
from bench.peers.ask import Connection
from bench.peers.elasticsearch import INDEX, Elasticsearch
from bench.peers.jaeger import Jaeger, span_count
from bench.peers.peer import Peer
from bench.peers.prometheus import Prometheus
from bench.peers.questions import Ask, Data
from bench.peers.victorialogs import VictoriaLogs
from bench.peers.victoriametrics import VictoriaMetrics
from bench.target import DIRECTLY

_QUERY = "/jaeger.api_v3.QueryService"


def questions_of(peer: Peer) -> Callable[[Data], Mapping[str, Ask]]:
    """What makes the questions to a peer; of one that answers none it makes none."""

    def make(data: Data) -> Mapping[str, Ask]:
        match peer:
            case VictoriaMetrics():
                return _promql(
                    peer,
                    data,
                    r"http\.server\.latency\.p50",
                    r"http\.server\.requests",
                    r"cloud\.region",
                    r"host\.name",
                )
            case Prometheus():
                gauge, counter = "http_server_latency_p50_milliseconds", "http_server_requests_total"
                return _promql(peer, data, gauge, counter, "cloud_region", "host_name")
            case VictoriaLogs():
                return _logsql(peer, data)
            case Elasticsearch():
                return _search(peer, data)
            case Jaeger():
                return _traces(peer, data)
        return {}

    return make


def _promql(peer: Peer, data: Data, gauge: str, counter: str, region: str, host: str) -> Mapping[str, Ask]:
    connection = Connection(peer.server.address)

    def query(text: str, number: int) -> int:
        begin, end = data.hour(number)
        fields = {"query": text, "start": str(begin), "end": str(end), "step": "60", "nocache": "1"}
        return len(json.loads(connection.form("/api/v1/query_range", fields))["data"]["result"])

    return {
        asked.AVERAGE: lambda number: query(f"avg by ({region}) (avg_over_time({gauge}[1m]))", number),
        asked.RATE: lambda number: query(f"sum by ({host}) (rate({counter}[1m]))", number),
    }


def _logsql(peer: Peer, data: Data) -> Mapping[str, Ask]:
    connection = Connection(peer.server.address)
    within = f"_time:[{data.begin}, {data.end})"

    def query(text: str) -> bytes:
        return connection.form("/select/logsql/query", {"query": f"{within} {text}"})

    def errors(number: int) -> int:
        service = data.service(number)
        text = f'{{service.name="{service}"}} severity_text:=ERROR | sort by (_time) desc limit 50'
        return query(text).count(b"\n")

    def korean(number: int) -> int:
        # Its words are what stands between spaces, and Korean ones have endings: a prefix finds those.
        text = f'"{asked.KOREAN_WORDS[number % len(asked.KOREAN_WORDS)]}"* | stats count() as lines'
        return int(json.loads(query(text))["lines"])

    return {
        asked.RARE: lambda number: query(f'"{data.line(number)}" | limit 50').count(b"\n"),
        asked.ERRORS: errors,
        asked.KOREAN: korean,
    }


def _search(peer: Peer, data: Data) -> Mapping[str, Ask]:
    connection = Connection(peer.server.address)

    def search(must: list[object]) -> int:
        newest = [{"@timestamp": "desc"}]
        question = {"query": {"bool": {"filter": must}}, "size": 50, "sort": newest, "track_total_hits": False}
        return len(connection.json(f"/{INDEX}/_search?request_cache=false", question)["hits"]["hits"])

    def korean(number: int) -> int:
        word = asked.KOREAN_WORDS[number % len(asked.KOREAN_WORDS)]
        return int(connection.json(f"/{INDEX}/_count", {"query": {"match_phrase": {"message": word}}})["count"])

    return {
        asked.RARE: lambda number: search([{"match_phrase": {"message": data.line(number)}}]),
        asked.ERRORS: lambda number: search(
            [{"term": {"service": data.service(number)}}, {"terms": {"level": ["ERROR", "FATAL"]}}]
        ),
        asked.KOREAN: korean,
    }


def _traces(peer: Peer, data: Data) -> Mapping[str, Ask]:
    options = (*DIRECTLY, ("grpc.max_receive_message_length", -1))
    channel = grpc.insecure_channel(peer.server.address_of("query_grpc"), options)
    connection = Connection(peer.server.address_of("query_http"))
    ids = data.trace_ids(100)
    get = channel.unary_stream(f"{_QUERY}/GetTrace", GetTraceRequest.SerializeToString, TracesData.FromString)
    find = channel.unary_stream(f"{_QUERY}/FindTraces", FindTracesRequest.SerializeToString, TracesData.FromString)

    def slow(number: int) -> int:
        request = FindTracesRequest()
        request.query.service_name = data.root_service
        request.query.search_depth = 20
        request.query.duration_min.FromMilliseconds(300 + number % 37)
        request.query.start_time_min.seconds, request.query.start_time_max.seconds = data.begin - 1, data.end
        return len({_trace_id(part) for part in find(request)})

    def service_map(number: int) -> int:
        lookback = (data.end - data.begin) * 1000
        answer = connection.get(f"/api/dependencies?endTs={(data.end - number % 10) * 1000}&lookback={lookback}")
        return len(answer["data"])

    return {
        asked.TRACE: lambda number: sum(span_count(part) for part in get(GetTraceRequest(trace_id=ids[number % 100]))),
        asked.SLOW: slow,
        asked.MAP: service_map,
    }


def _trace_id(part: TracesData) -> bytes:
    return part.resource_spans[0].scope_spans[0].spans[0].trace_id
