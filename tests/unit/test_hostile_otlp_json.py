"""OTLP/JSON whose values have other types than they should, or are too many, is the sender's mistake, never ours."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from services.shared.bus import ingest as ingest_module
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError
from services.shared.rpc import otlp_http
from services.shared.rpc.otlp_http import MOST_OBJECTS, OtlpHttp
from services.shared.rpc.server import MAX_MESSAGE_BYTES


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


@pytest.mark.parametrize("empty", [b"{}", b"[]"])
async def test_millions_of_empty_values_are_refused_before_they_are_parsed(empty: bytes) -> None:
    # Cut off: that it is no JSON is seen by a parser only.
    body = b'{"resourceSpans":[' + (empty + b",") * MOST_OBJECTS
    with pytest.raises(InvalidArgumentError, match=f"more than {MOST_OBJECTS} objects") as refused:
        await HANDLER.answer(body, "application/json", "default")
    assert refused.value.reason == "SIZE_LIMIT_EXCEEDED"
    assert HANDLER.refuse(refused.value, "application/json")[0] == 400


@pytest.mark.parametrize("value", ['{"intValue":1}', '{"stringValue":""}', '{"boolValue":true}'])
def test_as_many_attributes_of_plain_values_as_fit_into_a_body_are_not_too_many(value: str) -> None:
    attribute = f'{{"key":"a","value":{value}}},'
    brackets = attribute.count("{") + attribute.count("[")
    assert MAX_MESSAGE_BYTES // len(attribute) * brackets < MOST_OBJECTS


async def test_others_are_answered_while_json_is_parsed_and_one_body_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, began, may_go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    parsing: list[bytes] = []

    def parse(body: bytes, request: type[Message]) -> bytes:
        parsing.append(body)
        loop.call_soon_threadsafe(began.set)
        assert may_go_on.wait(10)
        return b""

    monkeypatch.setattr(otlp_http, "_from_json", parse)
    handler = OtlpHttp(export, trace_service_pb2.ExportTraceServiceRequest, "traces.airis")
    calls = [asyncio.ensure_future(handler.answer(body, "application/json", "default")) for body in (b"1", b"2")]
    async with asyncio.timeout(5):
        await began.wait()
        assert (await handler.answer(b"", "application/x-protobuf", "default"))[0] == 200
        assert parsing == [b"1"]
        may_go_on.set()
        assert [status for status, _ in await asyncio.gather(*calls)] == [200, 200]
    assert parsing == [b"1", b"2"]


async def test_json_that_waits_to_be_parsed_is_bounded_and_no_tenants_takes_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, began, may_go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def parse(body: bytes, request: type[Message]) -> bytes:
        loop.call_soon_threadsafe(began.set)
        assert may_go_on.wait(10)
        return b""

    monkeypatch.setattr(otlp_http, "_from_json", parse)
    monkeypatch.setattr(ingest_module, "MOST_WAITING_BYTES", 6 * len(b"{}"))
    handler = OtlpHttp(export, trace_service_pb2.ExportTraceServiceRequest, "traces.airis")

    def call(tenant: str) -> asyncio.Task[Any]:
        return asyncio.create_task(handler.answer(b"{}", "application/json", tenant))

    calls = [call(tenant) for tenant in "aaaabbbc"]
    async with asyncio.timeout(5):
        await began.wait()
        may_go_on.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, ResourceExhaustedError) for each in found] == [*[False] * 3, True, *[False] * 3, True]
    assert isinstance(found[3], ResourceExhaustedError)
    assert handler.refuse(found[3], "application/json")[0] == 429
    # There is room again.
    assert (await call("c"))[0] == 200


async def test_json_that_the_bus_has_no_room_for_is_refused_before_it_is_parsed() -> None:
    def check_room(size: int) -> None:
        if size > 100:
            raise ResourceExhaustedError("full", reason="BACKLOG_FULL", retry_after=1.0)

    handler = OtlpHttp(export, trace_service_pb2.ExportTraceServiceRequest, "traces.airis", check_room)
    # Cut off: that it is no JSON is seen by a parser only.
    with pytest.raises(ResourceExhaustedError):
        await handler.answer(b'{"resourceSpans":[' + b" " * 100, "application/json", "default")
    assert (await handler.answer(b"{}", "application/json", "default"))[0] == 200


async def test_json_that_only_its_spaces_make_too_large_for_the_bus_is_taken() -> None:
    def check_room(size: int) -> None:
        raise InvalidArgumentError("too large", reason="SIZE_LIMIT_EXCEEDED")

    handler = OtlpHttp(export, trace_service_pb2.ExportTraceServiceRequest, "traces.airis", check_room)
    assert (await handler.answer(b"{" + b" " * 100 + b"}", "application/json", "default"))[0] == 200
