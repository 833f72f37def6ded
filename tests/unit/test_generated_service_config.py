"""gRPC itself takes the generated service config, and does what it says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc

from deploy.renderers.signals import read_signals
from resilience.contract import MethodPolicy, read_descriptor_set

ROOT = Path(__file__).resolve().parents[2]
CONFIG = (ROOT / "deploy/grpc/service_config.json").read_text(encoding="utf-8")


class Failing(metrics_pb2_grpc.MetricsServiceServicer):
    """Fails with a code until a number of attempts is reached."""

    def __init__(self, succeeds_at: int, code: grpc.StatusCode) -> None:
        self.attempts = 0
        self.hangs = threading.Event()
        self.hangs.set()
        self._succeeds_at = succeeds_at
        self._code = code

    def ListLabels(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._answer(context, metrics_pb2.ListLabelsResponse())

    def WatchMetrics(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        yield self._answer(context, metrics_pb2.WatchMetricsResponse())

    def _answer(self, context: Any, answer: Any) -> Any:
        self.attempts += 1
        self.hangs.wait()
        if self.attempts < self._succeeds_at:
            context.abort(self._code, "not now")
        return answer


@contextmanager
def stub_of(servicer: Failing) -> Iterator[metrics_pb2_grpc.MetricsServiceStub]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    options = [("grpc.service_config", CONFIG), ("grpc.use_local_subchannel_pool", 1)]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield metrics_pb2_grpc.MetricsServiceStub(channel)
    finally:
        server.stop(None).wait()


def test_a_call_is_repeated_as_the_contract_says() -> None:
    servicer = Failing(3, grpc.StatusCode.UNAVAILABLE)
    with stub_of(servicer) as stub:
        assert stub.ListLabels(metrics_pb2.ListLabelsRequest()) == metrics_pb2.ListLabelsResponse()
    assert servicer.attempts == 3


def test_a_call_has_the_deadline_of_the_contract() -> None:
    servicer = Failing(1, grpc.StatusCode.UNAVAILABLE)
    servicer.hangs.clear()
    started = time.monotonic()
    with stub_of(servicer) as stub:
        call = stub.ListLabels.future(metrics_pb2.ListLabelsRequest())
        code = call.code()
        servicer.hangs.set()
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    # gRPC's C core ends a call up to two seconds before a service config's timeout (github.com/grpc/grpc/issues/34547).
    assert 7.5 < time.monotonic() - started < 11


@pytest.mark.parametrize(
    ("code", "attempts"), [(grpc.StatusCode.UNAVAILABLE, 3), (grpc.StatusCode.INVALID_ARGUMENT, 1)]
)
def test_no_more_attempts_are_made_than_the_contract_allows(code: grpc.StatusCode, attempts: int) -> None:
    servicer = Failing(10, code)
    with stub_of(servicer) as stub, pytest.raises(grpc.RpcError) as failed:
        stub.ListLabels(metrics_pb2.ListLabelsRequest())
    assert failed.value.code() == code
    assert servicer.attempts == attempts


def test_a_stream_is_not_repeated() -> None:
    servicer = Failing(10, grpc.StatusCode.UNAVAILABLE)
    with stub_of(servicer) as stub, pytest.raises(grpc.RpcError):
        list(stub.WatchMetrics(metrics_pb2.WatchMetricsRequest()))
    assert servicer.attempts == 1


def test_a_config_that_grpc_refuses_fails_loudly() -> None:
    # So that the tests above mean something: an invalid config is not passed over.
    broken = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]})
    with grpc.insecure_channel("127.0.0.1:1", options=[("grpc.service_config", broken)]) as channel:
        with pytest.raises(grpc.RpcError) as failed:
            metrics_pb2_grpc.MetricsServiceStub(channel).ListLabels(metrics_pb2.ListLabelsRequest(), timeout=5)
        assert "maxAttempts" in failed.value.details()


def by_path() -> dict[str, dict[str, Any]]:
    return {f"/{n['service']}/{n['method']}": each for each in json.loads(CONFIG)["methodConfig"] for n in each["name"]}


def policies() -> list[MethodPolicy]:
    signals = read_signals(read_descriptor_set(ROOT / "gen/airis.binpb"))
    return [policy for signal in signals for policy in signal.policies]


@pytest.mark.parametrize("policy", policies(), ids=lambda policy: policy.method)
def test_every_rpc_is_there_as_in_the_contract(policy: MethodPolicy) -> None:
    config = by_path()[policy.method]
    assert config.get("timeout") == (f"{policy.deadline:g}s" if policy.deadline else None)
    assert ("retryPolicy" in config) == (policy.retry is not None)
    assert ("hedgingPolicy" in config) == (policy.hedging is not None)
    if policy.retry is not None:
        assert config["retryPolicy"]["maxAttempts"] == min(policy.retry.max_attempts, 5)
        assert set(config["retryPolicy"]["retryableStatusCodes"]) == policy.retry.retryable_codes
    if policy.hedging is not None:
        assert config["hedgingPolicy"]["maxAttempts"] == policy.hedging.max_attempts
        assert config["hedgingPolicy"]["hedgingDelay"] == f"{policy.hedging.delay:g}s"
