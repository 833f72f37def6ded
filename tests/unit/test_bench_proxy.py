"""What is measured is on this machine: no proxy of the environment is asked for it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from overload_load import HEALTH, Phase, Traffic, offer

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import load_lane, overload_traffic
from bench.airis_target import AirisTarget
from bench.target import otlp_grpc

METHOD = "/airis.metrics.v1.MetricsService/QueryMetrics"


class _Empty(grpc.GenericRpcHandler):
    """Answers whatever is called."""

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server's, in an environment that names a proxy where nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        for name in ("no_grpc_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        server = grpc.server(ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((_Empty(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_the_load_generator_asks_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_lane, "REQUEST_SECONDS", 10.0)
    sender = load_lane.GrpcSender(otlp_grpc("logs", address))
    assert sender.send(b"", 1) == load_lane.Outcome(0)
    sender.close()


def test_the_platform_is_counted_without_one(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = AirisTarget()
    monkeypatch.setattr(target, "address", lambda port: address)
    assert target.stored("traces") == 0


def test_overload_asks_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload_traffic, "_PATIENCE_SECONDS", 0.0)
    assert overload_traffic.store_all("metrics", address) > 0
    traffic = [Traffic(METHOD, callers=1), Traffic(HEALTH, 20.0)]
    for report in offer(address, [Phase("bare", 0.5, traffic), Phase("wrapped", 0.5, traffic, wrapped=True)]):
        assert set(report.codes(METHOD)) == set(report.codes(HEALTH)) == {"OK"}
