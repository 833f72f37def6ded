"""Spans of a shop of eight services: 32 traces a request, each a tree of 16 spans in all eight."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from bench.templates import Template, binary_mark, fixed64_mark, octets

_TRACES = 32
_TEMPLATES = 32
_STEP_NS = 250_000_000
_START, _END, _TRACE, _SPAN, _PARENT = 1, 2, 3, 4, 5
_CLIENT, _SERVER = Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER


@dataclass(frozen=True)
class _Node:
    service: str
    name: str
    kind: Span.SpanKind.ValueType
    parent: int
    start: float
    length: float


# Start and length as a part of the whole trace.
_TREE = (
    _Node("frontend", "POST /checkout", _SERVER, -1, 0.00, 1.00),
    _Node("frontend", "account.Accounts/GetProfile", _CLIENT, 0, 0.01, 0.10),
    _Node("account", "account.Accounts/GetProfile", _SERVER, 1, 0.02, 0.08),
    _Node("frontend", "cart.Cart/GetItems", _CLIENT, 0, 0.12, 0.30),
    _Node("cart", "cart.Cart/GetItems", _SERVER, 3, 0.13, 0.28),
    _Node("cart", "catalog.Catalog/GetPrices", _CLIENT, 4, 0.15, 0.20),
    _Node("catalog", "catalog.Catalog/GetPrices", _SERVER, 5, 0.16, 0.18),
    _Node("catalog", "SELECT price FROM product WHERE id = ANY($1)", _CLIENT, 6, 0.17, 0.15),
    _Node("frontend", "recommendation.Recommendations/List", _CLIENT, 0, 0.13, 0.15),
    _Node("recommendation", "recommendation.Recommendations/List", _SERVER, 8, 0.14, 0.13),
    _Node("frontend", "payment.Payments/Authorize", _CLIENT, 0, 0.45, 0.35),
    _Node("payment", "payment.Payments/Authorize", _SERVER, 10, 0.46, 0.33),
    _Node("payment", "inventory.Inventory/Reserve", _CLIENT, 11, 0.50, 0.12),
    _Node("inventory", "inventory.Inventory/Reserve", _SERVER, 12, 0.51, 0.10),
    _Node("frontend", "shipping.Shipping/Quote", _CLIENT, 0, 0.82, 0.15),
    _Node("shipping", "shipping.Shipping/Quote", _SERVER, 14, 0.83, 0.13),
)
SPANS = _TRACES * len(_TREE)


class TracePayloads:
    """Requests of 512 spans.

    Args:
        base_ns: When the first trace began.
    """

    items = SPANS
    period = 1
    step_ns = _STEP_NS
    services = tuple(dict.fromkeys(node.service for node in _TREE))

    def __init__(self, base_ns: int) -> None:
        self._base_ns = base_ns
        fields = {_START: 8, _END: 8, _TRACE: 16, _SPAN: 8, _PARENT: 8}
        self._templates = [
            Template(_message(random.Random(seed)).SerializeToString(), fields) for seed in range(_TEMPLATES)
        ]
        self._starts = np.tile([node.start for node in _TREE], _TRACES)
        self._ends = np.tile([node.start + node.length for node in _TREE], _TRACES)

    def request(self, number: int) -> bytes:
        """The request of a number."""
        random_source = np.random.Generator(np.random.SFC64([number, 3]))
        begins = self._base_ns + number * _STEP_NS + np.arange(_TRACES, dtype=np.int64) * (_STEP_NS // _TRACES)
        # Most take 50 to 200 ms, some much longer.
        lengths = np.exp(random_source.normal(18.4, 0.6, _TRACES))
        starts, spread = np.repeat(begins, len(_TREE)), np.repeat(lengths, len(_TREE))
        trace_ids = random_source.bytes(16 * _TRACES)
        traces = np.repeat(np.frombuffer(trace_ids, np.uint8).reshape(_TRACES, 16), len(_TREE), axis=0)
        # The number is in the span's id, so that no two are the same.
        own = np.arange(number * SPANS, (number + 1) * SPANS, dtype=np.uint64)
        spans = octets(_scrambled(own))
        return self._templates[number % _TEMPLATES].fill(
            {
                str(_START): octets(starts + (self._starts * spread).astype(np.int64)),
                str(_END): octets(starts + (self._ends * spread).astype(np.int64)),
                str(_TRACE): traces,
                str(_SPAN): spans,
                str(_PARENT): spans,
            }
        )


def _scrambled(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """As random as real ids look, and one to one: an odd factor and a shifted xor can both be undone."""
    mixed = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return mixed * np.uint64(0xBF58476D1CE4E5B9)


def _message(source: random.Random) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    scopes = {}
    for service in TracePayloads.services:
        group = request.resource_spans.add()
        for key, value in (
            ("service.name", service),
            ("host.name", f"host-{source.randrange(40):03d}"),
            ("deployment.environment.name", "production"),
        ):
            group.resource.attributes.add(key=key).value.string_value = value
        scopes[service] = group.scope_spans.add()
        scopes[service].scope.name = "bench"
    for trace in range(_TRACES):
        failed = source.random() < 0.02
        for place, node in enumerate(_TREE):
            at = trace * len(_TREE) + place
            span = scopes[node.service].spans.add(
                trace_id=binary_mark(_TRACE, at, 16),
                span_id=binary_mark(_SPAN, at),
                name=node.name,
                kind=node.kind,
                start_time_unix_nano=fixed64_mark(_START, at),
                end_time_unix_nano=fixed64_mark(_END, at),
            )
            if node.parent >= 0:
                span.parent_span_id = binary_mark(_PARENT, trace * len(_TREE) + node.parent)
            _describe(span, node, source, failed=failed and node.service in ("frontend", "payment"))
    return request


def _describe(span: Span, node: _Node, source: random.Random, *, failed: bool) -> None:
    attributes: dict[str, str | int]
    if node.name.startswith("SELECT"):
        attributes = {"db.system.name": "postgresql", "db.query.text": node.name, "db.response.returned_rows": 7}
    elif node.parent < 0:
        attributes = {
            "http.request.method": "POST",
            "url.path": "/checkout",
            "http.response.status_code": 500 if failed else 200,
            "enduser.id": f"user-{source.randrange(5000):05d}",
        }
    else:
        attributes = {
            "rpc.system": "grpc",
            "rpc.method": node.name,
            "rpc.grpc.status_code": 14 if failed else 0,
            "server.address": f"10.0.{source.randrange(8)}.{source.randrange(250)}",
        }
    for key, value in attributes.items():
        if isinstance(value, int):
            span.attributes.add(key=key).value.int_value = value
        else:
            span.attributes.add(key=key).value.string_value = value
    if failed:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = "the payment provider does not answer"
