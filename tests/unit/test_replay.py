"""Batches that come back as bytes get the columns that they had, and neighbours are decoded together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from fakes.otlp_requests import MADE, NOW, Counting, reader_and_checker, rows
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from services.shared.bus.ingest import Requests
from services.shared.bus.port import Batch, Header
from services.shared.bus.replay import Replay
from services.shared.errors import InvalidArgumentError

SHAPES = (1, 4, 0, 5, 2, 3, 8)


def _timeless_points() -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_double=1.0)
    return bytes(request.SerializeToString())


def _timeless_records() -> bytes:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "line"
    return bytes(request.SerializeToString())


TIMELESS = {"metrics": _timeless_points(), "logs": _timeless_records()}


def replay_of(signal: str) -> tuple[Replay[Any, Any], Counting]:
    counting, checker = reader_and_checker(signal)
    return Replay(counting, checker.columns), counting


def header(signal: str, **changes: Any) -> Header:
    return replace(Header("default", MADE[signal][0], NOW, 1), **changes)


def batches(replay: Replay[Any, Any], signal: str, *headers: Header) -> list[Batch[Any]]:
    """One of each shape, with these headers in turn."""
    make = MADE[signal][1]
    return [Batch(headers[at % len(headers)], make(shape), replay.decode) for at, shape in enumerate(SHAPES)]


def alone(signal: str, batches: list[Batch[Any]]) -> list[Any]:
    replay, _ = replay_of(signal)
    return [rows(replay.decode(batch.header, batch.payload)) for batch in batches]


def decoded(given: list[Batch[Any]]) -> list[Any]:
    """The rows of each, which all have their columns by now."""
    assert all(batch.is_decoded for batch in given)
    return [rows(batch.columns) for batch in given]


@pytest.mark.parametrize("signal", MADE)
def test_neighbours_are_decoded_at_once_and_each_gets_its_own_columns(signal: str) -> None:
    replay, counting = replay_of(signal)
    given = batches(replay, signal, *(header(signal, received_at=NOW + at) for at in range(7)))
    replay.decode_all(given)
    assert counting.sizes == [7]
    assert decoded(given) == alone(signal, given)
    assert counting.sizes == [7]


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"rejected": (0,)}], ids=["tenant", "rejected"])
@pytest.mark.parametrize("signal", MADE)
def test_what_differs_in_more_than_its_items_is_decoded_alone(signal: str, change: dict[str, Any]) -> None:
    replay, counting = replay_of(signal)
    given = batches(replay, signal, header(signal), header(signal, **change))
    replay.decode_all(given)
    assert decoded(given) == alone(signal, given)
    assert counting.sizes == [1] * 7


def test_those_of_whose_items_some_were_refused_are_not_decoded_together_with_each_other() -> None:
    replay, counting = replay_of("logs")
    given = batches(replay, "logs", header("logs", rejected=(0,)))
    replay.decode_all(given)
    assert decoded(given) == alone("logs", given)
    assert counting.sizes == [1] * 7


@pytest.mark.parametrize("signal", ["metrics", "logs"])
def test_an_item_without_a_time_has_that_of_its_own_receipt(signal: str) -> None:
    replay, _ = replay_of(signal)
    moments = [NOW, NOW + 10**9, NOW + 10**9]
    given = [Batch(header(signal, received_at=moment), TIMELESS[signal], replay.decode) for moment in moments]
    replay.decode_all(given)
    name = {"metrics": "samples", "logs": "entries"}[signal]
    times = [getattr(batch.columns, name).column("timestamp").cast(pa.int64()).to_pylist() for batch in given]
    unit = 10**6 if signal == "metrics" else 1
    assert times == [[moment // unit] for moment in moments]
    assert decoded(given) == alone(signal, given)


@pytest.mark.parametrize("error", [InvalidArgumentError("wrong"), MemoryError()], ids=["wrong", "memory"])
def test_one_that_cannot_be_read_keeps_no_other_from_its_columns(error: Exception) -> None:
    poison = b"poison"
    counting, checker = reader_and_checker("logs")

    def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Any]:
        if poison in payloads:
            raise error
        return counting(message_type, payloads)

    replay = Replay[Any, Any](read, checker.columns)
    given = batches(replay, "logs", header("logs"))
    broken = Batch(header("logs"), poison, replay.decode)
    replay.decode_all([*given, broken])
    assert decoded(given) == alone("logs", given)
    with pytest.raises(type(error)):
        _ = broken.columns


def test_what_has_its_columns_is_not_decoded_again() -> None:
    replay, counting = replay_of("logs")
    kept = object()
    given = [Batch(header("logs"), b"\xff", replay.decode, kept) for _ in range(3)]
    replay.decode_all(given)
    assert [batch.columns for batch in given] == [kept] * 3
    assert counting.sizes == []


def test_an_insert_of_very_many_batches_is_decoded_in_bounded_groups() -> None:
    replay, counting = replay_of("logs")
    replay.decode_all([Batch(header("logs"), MADE["logs"][1](2), replay.decode) for _ in range(150)])
    assert counting.sizes == [64, 64, 22]


def test_large_batches_are_decoded_few_at_a_time() -> None:
    replay, counting = replay_of("logs")
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=NOW)
    record.body.string_value = "x" * 200_000
    payload = request.SerializeToString()
    given = [Batch(header("logs"), payload, replay.decode) for _ in range(25)]
    replay.decode_all(given)
    assert counting.sizes == [10, 10, 5]
    assert all(batch.columns.count == 1 for batch in given)
