"""OTLP/JSON whose values have other types than they should is the sender's mistake, never ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.rpc.otlp_http import OtlpHttp


async def export(payload: bytes, tenant: str) -> Message:
    return trace_service_pb2.ExportTraceServiceResponse()


HANDLER = OtlpHttp(export, trace_service_pb2.ExportTraceServiceRequest, "traces.airis")


@pytest.mark.parametrize(
    "tree",
    [
        {"resourceSpans": 5.0},
        {"resourceSpans": "\ud800"},
        {"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": {"doubleValue": 10**400}}]}}]},
        {"resourceSpans": [{"scopeSpans": 1.5}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [None]}]}]},
        {"resourceSpans": [{"resource": {"attributes": None, "\ud800": 1}}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": [], "name": {}}]}]}]},
        [],
        None,
        "x",
    ],
)
async def test_a_value_of_another_type_is_refused_as_a_bad_request(tree: Any) -> None:
    body = json.dumps(tree).encode()
    try:
        status, _ = await HANDLER.answer(body, "application/json", "default")
    except Exception as error:
        status, _ = HANDLER.refuse(error, "application/json")
    assert status in (200, 400)
