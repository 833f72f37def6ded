"""A blocking server under the policies: how a handler's own end of a call arrives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from fakes import trial_contract
from google.protobuf.wrappers_pb2 import StringValue

from resilience.contract import method_policy
from resilience.grpc.guard import Guard
from resilience.grpc.status import make_status
from resilience.grpc.sync_server import SyncPolicyInterceptor

CODECS = {"request_deserializer": StringValue.FromString, "response_serializer": StringValue.SerializeToString}


class Served:
    """Words every error as INTERNAL."""

    def admitted(self, caller: Any) -> None:
        pass

    def check(self, request: Any) -> None:
        pass

    def describe(self, error: Exception, method: str) -> Any:
        return make_status("INTERNAL", f"worded: {error!r}", [])


def get(request: StringValue, context: grpc.ServicerContext) -> StringValue:
    if request.value == "abort":
        context.abort(grpc.StatusCode.NOT_FOUND, "the handler's own words")
    if request.value == "raise":
        raise Exception
    return request


def watch(request: StringValue, context: grpc.ServicerContext) -> Iterator[StringValue]:
    yield request
    get(request, context)


@pytest.fixture
def channel() -> Iterator[grpc.Channel]:
    caller = SimpleNamespace(tenant="shop", permissions={"trial.read"}, expires_at=math.inf)
    guard = Guard(map(method_policy, trial_contract.load().methods), lambda token, tenant: caller)
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[SyncPolicyInterceptor(guard, Served())])
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get, **CODECS),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, **CODECS),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(trial_contract.SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("does", "code", "details"),
    [
        ("abort", grpc.StatusCode.NOT_FOUND, "the handler's own words"),
        ("raise", grpc.StatusCode.INTERNAL, "worded: Exception()"),
    ],
)
def test_a_handler_may_end_a_call_in_its_own_words(
    channel: grpc.Channel, does: str, code: grpc.StatusCode, details: str
) -> None:
    codecs = {"request_serializer": StringValue.SerializeToString, "response_deserializer": StringValue.FromString}
    asking = channel.unary_unary(trial_contract.path("Get"), **codecs)
    watching = channel.unary_stream(trial_contract.path("Watch"), **codecs)
    for call in (asking, lambda request, **options: list(watching(request, **options))):
        with pytest.raises(grpc.RpcError) as caught:
            call(StringValue(value=does), timeout=5)
        assert caught.value.code() is code
        assert caught.value.details() == details
    assert asking(StringValue(value="x"), timeout=5).value == "x"


def test_nothing_is_parsed_for_who_may_not_call() -> None:
    def refuse(token: str | None, tenant: str | None) -> Any:
        raise PermissionError

    def parse(payload: bytes) -> StringValue:
        raise AssertionError

    guard = Guard(map(method_policy, trial_contract.load().methods), refuse)
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[SyncPolicyInterceptor(guard, Served())])
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get, request_deserializer=parse),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, request_deserializer=parse),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(trial_contract.SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = (channel.unary_unary(trial_contract.path("Get")), channel.unary_stream(trial_contract.path("Watch")))
        for call, read in zip(calls, (lambda answer: answer, list), strict=True):
            with pytest.raises(grpc.RpcError) as caught:
                read(call(b"x", timeout=5))
            assert caught.value.details() == "worded: PermissionError()"
    server.stop(None).wait()
