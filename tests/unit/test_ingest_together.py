"""Requests that arrive together are decoded and checked together, and each gets what it would have got alone."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from fakes.otlp_requests import MADE, NOW, Counting, reader_and_checker, records, rows
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from services.logs import convert as logs
from services.logs import ingest as logs_ingest
from services.logs.config import LogsConfig
from services.shared.bus import ingest as ingest_module
from services.shared.bus.ingest import CheckedRequest, Ingest, Requests
from services.shared.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError


class Intake:
    """Has the time, and room."""

    def clock(self) -> int:
        return NOW

    def check_room(self, size: int) -> None:
        pass


def ingest_of(signal: str) -> tuple[Ingest[Any, Any], Counting]:
    counting, checker = reader_and_checker(signal)
    intake: Any = Intake()
    return Ingest(counting, checker, intake), counting


@pytest.mark.parametrize("signal", MADE)
async def test_each_request_gets_the_columns_that_it_gets_alone(signal: str) -> None:
    message_type, make = MADE[signal]
    payloads = [make(number) for number in (1, 4, 0, 5, 2, 3, 8)]
    together, counting = ingest_of(signal)
    found = await asyncio.gather(*(together.check(message_type, "default", payload) for payload in payloads))
    assert counting.sizes == [7]
    alone, _ = ingest_of(signal)
    expected = [await alone.check(message_type, "default", payload) for payload in payloads]
    assert [rows(each.columns) for each in found] == [rows(each.columns) for each in expected]
    assert [each.count for each in found] == [each.count for each in expected]
    assert sum(each.count for each in found) > 10
    assert {each.received_at for each in found} == {NOW}


async def test_a_request_that_is_wrong_is_refused_alone_and_its_items_by_their_own_places() -> None:
    ingest, _ = ingest_of("logs")
    partly = ExportLogsServiceRequest()
    scope = partly.resource_logs.add().scope_logs.add()
    for time in (NOW, 1, NOW):
        scope.log_records.add(time_unix_nano=time).body.string_value = "x"
    sent = [records(4), b"\xff\xff", partly.SerializeToString(), records(5)]
    found = await asyncio.gather(*(ingest.check(logs.OTLP, "default", each) for each in sent), return_exceptions=True)
    assert isinstance(found[1], InvalidArgumentError)
    assert found[1].reason == "MALFORMED_REQUEST"
    first, _, third, fourth = found
    assert isinstance(first, CheckedRequest)
    assert isinstance(third, CheckedRequest)
    assert isinstance(fourth, CheckedRequest)
    assert {at: each.field for at, each in third.rejected.items()} == {1: "log_records[1].timestamp"}
    assert (first.count, third.count, third.columns.count, fourth.count) == (4, 3, 2, 20)
    assert not first.rejected
    assert not fourth.rejected


async def test_where_no_more_threads_can_be_started_requests_are_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ingest, counting = ingest_of("logs")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert [(await ingest.check(logs.OTLP, "default", records(number))).count for number in (4, 5)] == [4, 20]
    assert counting.sizes == [1, 1]


async def test_without_memory_those_who_wait_are_told_and_the_next_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    ingest, _ = ingest_of("logs")

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "_check_and_learn", no_memory)
        sent = (ingest.check(logs.OTLP, "default", records(number)) for number in (1, 4))
        found = await asyncio.gather(*sent, return_exceptions=True)
        assert all(isinstance(each, UnavailableError) and each.retry_after for each in found)
    assert (await ingest.check(logs.OTLP, "default", records(4))).count == 4


async def test_what_cannot_be_learned_is_taken_all_the_same() -> None:
    class Forgetful:
        """Knows nothing, and cannot learn."""

        def recall(self, *_: object) -> None:
            return None

        def learn(self, *_: object) -> None:
            raise RuntimeError("OrderedDict mutated during iteration")

    counting, checker = reader_and_checker("logs")
    intake: Any = Intake()
    ingest: Ingest[Any, Any] = Ingest(counting, checker, intake, Forgetful())
    assert (await ingest.check(logs.OTLP, "default", records(4))).count == 4


async def test_tenants_are_not_mixed_and_what_nobody_waits_for_is_not_checked() -> None:
    ingest, counting = ingest_of("logs")
    first = asyncio.create_task(ingest.check(logs.OTLP, "a", records(1)))
    await asyncio.sleep(0)
    others = [asyncio.create_task(ingest.check(logs.OTLP, tenant, records(4))) for tenant in "abab"]
    await asyncio.sleep(0)
    others[0].cancel()
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    tenants = [
        set(each.columns.entries.column("tenant").to_pylist()) for each in found if isinstance(each, CheckedRequest)
    ]
    assert tenants == [{"a"}, {"b"}, {"a"}, {"b"}]
    assert sum(counting.sizes) == 4


async def test_large_requests_are_not_joined_without_limit() -> None:
    ingest, counting = ingest_of("logs")
    large = ExportLogsServiceRequest()
    for _ in range(6):
        large.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=NOW).body.string_value = "x" * 200_000
    payload = large.SerializeToString()
    await asyncio.gather(*(ingest.check(logs.OTLP, "default", payload) for _ in range(4)))
    assert max(counting.sizes) == 1


async def test_whatever_goes_wrong_with_all_together_each_is_answered() -> None:
    def read(message_type: str, payloads: Sequence[bytes]) -> Requests[Any]:
        if len(payloads) > 1:
            raise RuntimeError("only together")
        return logs.read(message_type, payloads)

    intake: Any = Intake()
    ingest = Ingest(read, logs_ingest.Checker(LogsConfig()), intake)
    async with asyncio.timeout(10):
        found = await asyncio.gather(*(ingest.check(logs.OTLP, "default", records(4)) for _ in range(3)))
    assert [each.count for each in found] == [4, 4, 4]


async def test_a_request_that_is_refused_is_not_kept_until_garbage_is_collected() -> None:
    ingest, _ = ingest_of("logs")
    payload = b"\xff" * 1000
    gc.disable()
    try:
        held = sys.getrefcount(payload)
        for _ in range(10):
            with suppress(InvalidArgumentError):
                await ingest.check(logs.OTLP, "default", payload)
        # The thread that checked the last one may not have let go of it yet, but none of the others is kept.
        assert sys.getrefcount(payload) < held + 10
    finally:
        gc.enable()


async def test_what_the_bus_has_no_room_for_is_refused_before_it_is_decoded() -> None:
    class Full(Intake):
        def check_room(self, size: int) -> None:
            if size > 100:
                raise ResourceExhaustedError("full", reason="BACKLOG_FULL", retry_after=1.0)

    ingest, counting = ingest_of("logs")
    full: Any = Full()
    ingest.intake = full
    with pytest.raises(ResourceExhaustedError):
        await ingest.check(logs.OTLP, "default", records(4))
    with pytest.raises(ResourceExhaustedError):
        await ingest.check(logs.OTLP, "default", b"\xff" * 101)
    assert counting.sizes == []
    assert (await ingest.check(logs.OTLP, "default", b"")).count == 0


async def test_what_waits_to_be_decoded_is_bounded_and_no_tenants_requests_of_one_type_take_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payload = records(4)
    monkeypatch.setattr(ingest_module, "MOST_WAITING_BYTES", 6 * len(payload))
    ingest, _ = ingest_of("logs")

    def check(tenant: str) -> asyncio.Task[Any]:
        return asyncio.create_task(ingest.check(logs.OTLP, tenant, payload))

    tasks = [check(tenant) for tenant in "aaaabbbc"]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, ResourceExhaustedError) for each in found] == [*[False] * 3, True, *[False] * 3, True]
    assert found[3].reason == "BACKLOG_FULL"  # type: ignore[union-attr]
    # There is room again.
    assert (await check("c")).count == 4
