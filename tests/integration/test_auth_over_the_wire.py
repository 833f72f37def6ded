"""Tokens on real connections: what the clients and exporters send, and what HTTP answers."""

# ruff: noqa: N802 (servicers have the names of the contract)
from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import grpc
import pytest
from airis.client import AirisClient, AirisError, SyncAirisClient
from airis.client.cli import app
from airis.client.credentials import acting_for
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from service_process import free_offset
from signed_tokens import KID, key, token, write_jwks
from typer.testing import CliRunner

from services.shared.auth.config import AuthConfig
from services.shared.auth.http import JWKS_PATH
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.server import Binding, Endpoints, RpcServer
from services.shared.telemetry.token_headers import TokenHeaders

LOGS = logs_pb2.DESCRIPTOR.services_by_name["LogService"]
OTLP_LOGS = logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"]


class Listener(metrics_pb2_grpc.MetricsServiceServicer, trace_service_pb2_grpc.TraceServiceServicer):
    """Answers, and remembers the metadata of each call."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        self.target = ""

    def _hear(self, context: Any) -> None:
        self.heard.append(dict(context.invocation_metadata()))

    async def ListMetrics(self, request: Any, context: Any) -> Any:
        self._hear(context)
        return metrics_pb2.ListMetricsResponse()

    async def WatchMetrics(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self._hear(context)
        yield metrics_pb2.WatchMetricsResponse()

    async def StreamMetrics(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self._hear(context)
        async for request in requests:
            if request.HasField("open"):
                opened = {"max_outstanding_batches": 10, "max_outstanding_bytes": 1_000_000}
                yield metrics_pb2.StreamMetricsResponse(opened=opened)
            else:
                yield metrics_pb2.StreamMetricsResponse(ack={"through_sequence": request.batch.sequence})

    async def Export(self, request: Any, context: Any) -> Any:
        self._hear(context)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def authorizations(self) -> list[str | None]:
        return [metadata.get("authorization") for metadata in self.heard]


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    heard = Listener()
    server = grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(heard, server)
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(heard, server)
    heard.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield heard
    await server.stop(None)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRIS_TOKEN", raising=False)
    monkeypatch.delenv("AIRIS_TOKEN_FILE", raising=False)


async def test_every_kind_of_call_brings_the_token(listener: Listener) -> None:
    async with AirisClient(listener.target, token="t.o.k") as client:
        await client.metrics.list().first_page()
        async for _ in client.metrics.watch(metrics_pb2.QueryMetricsRequest(metric="cpu")):
            break
        async with client.metrics.session() as session:
            await session.send([metrics_pb2.Metric(name="cpu", value=1)])
        with acting_for("acme"):
            await client.metrics.list().first_page()
    assert set(listener.authorizations) == {"Bearer t.o.k"}
    assert len(listener.heard) >= 4
    assert [metadata.get("airis-tenant") for metadata in listener.heard][-2:] == [None, "acme"]


async def test_without_a_token_nothing_is_sent(listener: Listener) -> None:
    async with AirisClient(listener.target) as client:
        await client.metrics.list().first_page()
    assert listener.authorizations == [None]


async def test_a_token_that_was_replaced_is_used_by_the_next_call(listener: Listener, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    async with AirisClient(listener.target, token_file=file) as client:
        await client.metrics.list().first_page()
        file.with_suffix(".new").write_text("two\n")
        file.with_suffix(".new").replace(file)
        await client.metrics.list().first_page()
    assert listener.authorizations == ["Bearer one", "Bearer two"]


async def test_a_token_file_that_is_missing_fails_the_call_in_one_sentence(listener: Listener, tmp_path: Path) -> None:
    async with AirisClient(listener.target, token_file=tmp_path / "nowhere") as client:
        with pytest.raises(AirisError, match="nowhere cannot be read") as caught:
            await client.metrics.list().first_page()
        session = client.metrics.session()
        with pytest.raises(AirisError, match="nowhere cannot be read"):
            await session.start()
        await session.abort()
    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
    assert not listener.heard


async def test_the_blocking_client_and_the_command_bring_it_too(
    listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("of-the-file")

    def blocking() -> None:
        with SyncAirisClient(listener.target, token="given") as client:
            client.metrics.list().first_page()

    await asyncio.to_thread(blocking)
    monkeypatch.setenv("AIRIS_TOKEN_FILE", str(file))
    arguments = ["metrics", "list", "--target", listener.target]
    answer = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert answer.exit_code == 0, answer.stderr
    monkeypatch.setenv("AIRIS_TOKEN", "not a token")
    answer = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert answer.exit_code == 1
    assert "characters that no token has" in answer.stderr
    assert "not a token" not in answer.stderr
    assert listener.authorizations == ["Bearer given", "Bearer of-the-file"]


async def test_an_exporter_picks_up_a_token_that_was_replaced(
    listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "telemetry.jwt"
    file.write_text("one\n")
    exporter = OTLPSpanExporter(endpoint=f"http://{listener.target}", insecure=True, headers=TokenHeaders(file))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    def emit() -> None:
        with tracer.start_as_current_span("work"):
            pass

    with caplog.at_level(logging.DEBUG):
        await asyncio.to_thread(emit)
        file.with_suffix(".new").write_text("two\n")
        file.with_suffix(".new").replace(file)
        await asyncio.to_thread(emit)
        await asyncio.to_thread(provider.shutdown)
    assert listener.authorizations == ["Bearer one", "Bearer two"]
    assert "Bearer" not in caplog.text


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The HTTP port of a service that answers OTLP with the tenant whose data it took."""
    file = write_jwks(tmp_path / "jwks.json", {KID: key()})

    async def export(payload: bytes, tenant: str) -> Any:
        return logs_service_pb2.ExportLogsServiceResponse(partial_success={"error_message": f"for {tenant}"})

    otlp = OtlpHttp(export, logs_service_pb2.ExportLogsServiceRequest, "logs.airis")
    servicer = SimpleNamespace(**{method.name: None for method in LOGS.methods}, Export=None)
    ports = free_offset(8002, 9102)
    server = RpcServer(
        Endpoints(
            "127.0.0.1",
            8002 + ports,
            9102 + ports,
            "logs.airis",
            (
                Binding(LOGS, servicer),
                Binding(OTLP_LOGS, servicer, policy_of=f"/{LOGS.full_name}/IngestLogs", otlp=("/v1/logs", otlp)),
            ),
            ready=lambda: asyncio.sleep(0, ""),
            auth=AuthConfig(enabled=True, jwks_file=file),
        )
    )
    await server.start()
    yield f"http://127.0.0.1:{9102 + ports}", file
    await server.stop()


def logs_token(**changes: Any) -> str:
    now = int(time.time())
    return token(**{"permissions": ["logs.write"], "iat": now, "nbf": now, "exp": now + 600, **changes})


@pytest.mark.parametrize(
    ("scheme", "changes", "acting_for", "status", "text"),
    [
        ("", {}, "", 401, "TOKEN_MISSING"),
        ("Basic", {}, "", 401, "TOKEN_INVALID"),
        ("Bearer", {"exp": 1_700_000_000}, "", 401, "TOKEN_EXPIRED"),
        ("bearer", {}, "", 200, "for acme"),
        ("Bearer", {"permissions": ["logs.read"]}, "", 403, "PERMISSION_MISSING"),
        ("Bearer", {"tenant": "*"}, "", 403, "airis-tenant"),
        ("Bearer", {"tenant": "*"}, "other", 200, "for other"),
        ("Bearer", {}, "other", 403, "airis-tenant"),
    ],
)
async def test_http_requests_are_judged_by_their_headers(
    http: tuple[str, Path], scheme: str, changes: dict[str, Any], acting_for: str, status: int, text: str
) -> None:
    headers = {"Authorization": f"{scheme} {logs_token(**changes)}"} if scheme else {}
    if acting_for:
        headers["Airis-Tenant"] = acting_for
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{http[0]}/v1/logs", headers=headers, json={}) as response,
    ):
        assert response.status == status
        assert text in await response.text()
        assert ("WWW-Authenticate" in response.headers) is (status == 401)


async def test_the_public_keys_are_served_to_everybody_and_are_new_at_once(http: tuple[str, Path]) -> None:
    url, file = http
    async with aiohttp.ClientSession() as session:

        async def kids() -> list[str]:
            async with session.get(url + JWKS_PATH) as response:
                assert response.status == 200
                assert response.content_type == "application/json"
                return [entry["kid"] for entry in json.loads(await response.read())["keys"]]

        assert await kids() == [KID]
        write_jwks(file, {KID: key(), "next": key(1)})
        assert await kids() == [KID, "next"]
        file.unlink()
        async with session.get(url + JWKS_PATH) as response:
            assert response.status == 503
