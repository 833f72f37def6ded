"""Callers that break the rules of HTTP and gRPC: it is their fault, and nothing of what they send is logged."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from airis.logs.v1 import logs_pb2
from grpc._cython.cygrpc import ExecuteBatchError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from service_process import free_offset

from services.shared.auth.config import AuthConfig
from services.shared.rpc import server as server_module
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.server import Binding, Endpoints, RpcServer
from services.shared.rpc.wire_log import keep_requests_out_of_logs

LOGS = logs_pb2.DESCRIPTOR.services_by_name["LogService"]
OTLP_LOGS = logs_service_pb2.DESCRIPTOR.services_by_name["LogsService"]
SECRET = "Bearer not-for-the-log"


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    async def export(payload: bytes, tenant: str) -> Any:
        return logs_service_pb2.ExportLogsServiceResponse()

    contract = server_module.policies

    def hasty(files: Any) -> list[Any]:
        return [replace(policy, deadline=0.2) for policy in contract(files)]

    monkeypatch.setattr(server_module, "policies", hasty)
    otlp = OtlpHttp(export, logs_service_pb2.ExportLogsServiceRequest, "logs.airis")
    servicer = SimpleNamespace(**{method.name: None for method in LOGS.methods}, Export=None)
    offset = free_offset(8002, 9102)
    server = RpcServer(
        Endpoints(
            "127.0.0.1",
            8002 + offset,
            9102 + offset,
            "logs.airis",
            (
                Binding(LOGS, servicer),
                Binding(OTLP_LOGS, servicer, policy_of=f"/{LOGS.full_name}/IngestLogs", otlp=("/v1/logs", otlp)),
            ),
            ready=lambda: asyncio.sleep(0, ""),
            auth=AuthConfig(),
        )
    )
    await server.start()
    yield 9102 + offset
    await server.stop()


async def answer(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(20):
        got = await reader.read(65536)
    writer.close()
    return got


@pytest.mark.parametrize(
    "sent",
    [
        f"POST /v1/logs HTTP/1.1\r\nauthorization: {SECRET}\r\nbad header\r\n\r\n".encode(),
        f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0{SECRET}".encode(),
        f"POST /v1/logs HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz{SECRET}\r\n".encode(),
        f"{SECRET}\r\n\r\n".encode(),
    ],
)
async def test_what_is_no_http_is_refused_and_not_logged(
    port: int, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        got = await answer(port, sent)
    assert b" 400 Bad Request\r\n" in got
    assert not caplog.records


@pytest.mark.parametrize("path", ["/v1/logs", "/readyz", "/none"])
async def test_a_connection_that_ends_after_a_broken_body_is_said_to(port: int, path: str) -> None:
    body = b"plain"
    head = f"GET {path} HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: {len(body)}\r\n\r\n"
    got = await answer(port, head.encode() + body)
    # Else a proxy would send the next caller's request into it.
    assert b"\r\nConnection: close\r\n" in got


async def test_a_body_that_is_not_what_its_encoding_says_is_refused_and_not_logged(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = gzip.compress(b"a" * 100_000 + SECRET.encode())
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    for body in (whole[:30] + b"\xff" * 30 + whole[60:], b"plain"):
        with caplog.at_level(logging.WARNING):
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"http://127.0.0.1:{port}/v1/logs", data=body, headers=headers) as response,
            ):
                assert response.status == 400
    assert not caplog.records


def test_a_caller_that_does_not_wait_for_its_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    keep_requests_out_of_logs()
    logger = logging.getLogger("aiohttp.server")
    logger.error("Error handling request", exc_info=aiohttp.ClientConnectionResetError("Cannot write"))
    assert not caplog.records
    logger.error("Error handling request", exc_info=KeyError("ours"))
    assert len(caplog.records) == 1


def test_an_answer_that_grpc_cannot_send_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    keep_requests_out_of_logs()
    error = ExecuteBatchError(f"of what was to be sent: {SECRET}")
    logging.getLogger("grpc._cython.cygrpc").error("raised by servicer method [/a/b]", exc_info=error)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage(), record.exc_info) == (
        "WARNING",
        "raised by servicer method [/a/b]",
        None,
    )


def test_metadata_that_is_no_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    keep_requests_out_of_logs()
    logger = logging.getLogger("grpc._cython.cygrpc")
    # As gRPC itself does.
    logger.exception("Invalid encoding on %s", f"{SECRET}\xff".encode("latin-1"))
    assert not caplog.records
    logger.error("Unexpected [%s] raised by servicer method", "KeyError")
    assert len(caplog.records) == 1


async def test_a_sender_that_leaves_in_the_middle_of_a_body_is_not_logged(port: int, capsys: Any) -> None:
    head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 50\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + b"\x0a")
    await writer.drain()
    writer.close()
    # One that is answered after it.
    assert b" 408 " in await answer(port, head.encode())
    assert "unexpected_error" not in capsys.readouterr().out


async def test_a_body_that_does_not_come_is_the_senders_fault(port: int) -> None:
    head = "POST /v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 50\r\n\r\n"
    got = await answer(port, head.encode() + b"\x0a")
    assert got.startswith(b"HTTP/1.1 408")
    assert b'"code": 4' in got
