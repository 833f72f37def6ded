"""Errors, deadlines and times of the client, as users see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from airis.client import AirisClient, AirisError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from airis.client.backoff import Backoff
from airis.client.cli.output import explain
from airis.client.errors import from_status
from airis.client.signals.alerts import Alerts
from airis.client.signals.logs import Logs
from airis.client.signals.metrics import Metrics
from airis.client.signals.resources import Resources
from airis.client.signals.traces import Traces
from airis.client.sync import SyncAlerts, SyncLogs, SyncMetrics, SyncResources, SyncTraces
from airis.client.times import duration, timestamp
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2


def status(code: int, message: str, *details: Message) -> status_pb2.Status:
    result = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        result.details.append(packed)
    return result


def test_a_status_becomes_an_error_with_all_that_it_says() -> None:
    error = from_status(
        status(
            code_pb2.INVALID_ARGUMENT,
            "The request is wrong.",
            error_details_pb2.ErrorInfo(reason="INVALID_NAME", domain="metrics.airis", metadata={"limit": "255"}),
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field="metrics[0].name", description="is empty")
                ]
            ),
        )
    )
    assert isinstance(error, InvalidArgumentError)
    assert (error.code, error.reason, error.metadata) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_NAME",
        {"limit": "255"},
    )
    assert [(violation.field, violation.description) for violation in error.violations] == [
        ("metrics[0].name", "is empty")
    ]
    assert explain(error) == "The request is wrong; metrics[0].name: is empty."


def test_a_retry_delay_and_a_resource_are_told() -> None:
    full = from_status(
        status(
            code_pb2.RESOURCE_EXHAUSTED,
            "The backlog is full.",
            error_details_pb2.ErrorInfo(reason="BACKLOG_FULL"),
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=500_000_000)),
        )
    )
    assert isinstance(full, ResourceExhaustedError)
    assert full.retry_delay == 0.5
    assert explain(full) == "The backlog is full; try again in 0.5 s."
    missing = from_status(
        status(code_pb2.NOT_FOUND, "There is no rule x.", error_details_pb2.ResourceInfo(resource_name="alertRules/x"))
    )
    assert isinstance(missing, NotFoundError)
    assert missing.resource == "alertRules/x"


def test_an_unknown_code_is_still_an_airis_error() -> None:
    assert type(from_status(status(99, "odd"))) is AirisError


def test_the_blocking_client_has_what_the_asynchronous_one_has() -> None:
    pairs = ((Metrics, SyncMetrics), (Logs, SyncLogs), (Traces, SyncTraces), (Alerts, SyncAlerts))
    for asynchronous, blocking in (*pairs, (Resources, SyncResources)):
        names = {name for name in dir(asynchronous) if not name.startswith("_")}
        # Unary calls of one thread need no sender that has several under way.
        assert names - {"unary_sender"} - set(dir(blocking)) == set()


async def test_a_client_refuses_signals_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="'metric'"):
        AirisClient(targets={"metric": "127.0.0.1:1"})


def test_moments_and_lengths_are_exact() -> None:
    assert timestamp(1_700_000_000_123_456_789).ToNanoseconds() == 1_700_000_000_123_456_789
    assert timestamp(datetime(2026, 11, 21, tzinfo=UTC)).ToJsonString() == "2026-11-21T00:00:00Z"
    assert timestamp(None) is None
    with pytest.raises(ValueError, match="time zone"):
        timestamp(datetime(2026, 11, 21))
    assert duration(1.5).ToNanoseconds() == 1_500_000_000
    assert duration(timedelta(minutes=1)).ToJsonString() == "60s"


def test_delays_grow_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff(0.1, 0.5, uniform=lambda low, high: high)
    assert [backoff.next_delay() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next_delay() == 0.1
