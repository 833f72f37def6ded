"""Calls that a frontend takes are answered by the owner as if it had been called itself."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from airis.metrics.v1 import metrics_pb2
from google.protobuf.wrappers_pb2 import StringValue

from resilience import deadline, load
from resilience.contract import policies
from resilience.grpc.guard import Guard
from services.shared import errors
from services.shared.errors import (
    AirisError,
    DeadlineExceededError,
    FieldViolation,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from services.shared.handover import caller as caller_module
from services.shared.handover import owner as owner_module
from services.shared.handover.caller import Caller
from services.shared.handover.frames import Call, Kind, call_frame, frame
from services.shared.handover.owner import HandedOver, Owner
from services.shared.rpc.context import tenant
from services.shared.telemetry.tracing import traceparent

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AirisError)]
METHOD = "/airis.metrics.v1.MetricsService/IngestMetrics"


def call_of(payload: bytes = b"payload", tenant: str = "korea", seconds: float = 30.0) -> Call:
    return Call(tenant, time.monotonic() + seconds, payload)


def guard() -> Guard:
    return Guard(policies([metrics_pb2.DESCRIPTOR]), lambda _, __: pytest.fail("a frontend knows who calls"))


def owner_at(path: Path, service: Any, guarded_by: Guard | None = None) -> Owner:
    path.parent.chmod(0o700)
    return Owner(HandedOver(path, service, "metrics.airis", METHOD), guarded_by or guard())


@dataclass
class Service:
    """What the owner of a store answers with. Each call waits until `go` is set."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Queue[tuple[str, str, bytes]] = field(default_factory=asyncio.Queue)
    then: Callable[[], object] = lambda: None

    async def unary(self, payload: bytes) -> StringValue:
        return await self._answer("unary", tenant(), payload)

    async def export(self, payload: bytes, owner: str) -> StringValue:
        return await self._answer("export", owner, payload)

    async def _answer(self, kind: str, owner: str, payload: bytes) -> StringValue:
        self.begun.put_nowait((kind, owner, payload))
        self.then()
        await self.go.wait()
        return StringValue(value=f"{kind} {owner} {len(payload)} {deadline.remaining() is not None}")


@pytest.fixture
def service() -> Service:
    service = Service()
    service.go.set()
    return service


@asynccontextmanager
async def handed_over(path: Path, service: Any, guarded_by: Guard | None = None) -> AsyncIterator[tuple[Owner, Caller]]:
    owner, caller = owner_at(path, service, guarded_by), Caller(path, "metrics")
    await owner.start()
    try:
        yield owner, caller
    finally:
        await caller.close()
        await owner.stop()


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.EXPORT])
async def test_the_owner_gets_the_bytes_the_tenant_and_the_deadline(
    tmp_path: Path, service: Service, kind: Kind
) -> None:
    async with handed_over(tmp_path / "s", service) as (_, caller):
        answer = StringValue.FromString(await caller.call(kind, call_of()))
    assert answer.value == f"{kind.name.lower()} korea 7 True"
    assert await service.begun.get() == (kind.name.lower(), "korea", b"payload")


async def test_calls_of_any_size_are_answered_each_its_own(tmp_path: Path, service: Service) -> None:
    sizes = [0, 1, 70_000, 3_000_000, 5] * 20
    async with handed_over(tmp_path / "s", service) as (_, caller):
        answers = await asyncio.gather(*(caller.call(Kind.EXPORT, call_of(bytes(size), "a")) for size in sizes))
    assert [StringValue.FromString(answer).value for answer in answers] == [f"export a {n} True" for n in sizes]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_arrives_as_it_was_raised(tmp_path: Path, service: Service, kind: type[AirisError]) -> None:
    raised = kind(
        "한국어: wrong.",
        reason="SIZE_LIMIT_EXCEEDED",
        violations=(FieldViolation("metrics[3].name", "must be there", "REQUIRED"),),
        retry_after=0.25,
        resource=("alertRule", "alertRules/x"),
        metadata={"limit": "5"},
    )

    def fail() -> None:
        raise raised

    service.then = fail
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(AirisError) as arrived:
            await caller.call(Kind.UNARY, call_of())
    assert type(arrived.value) is kind
    assert vars(arrived.value) == vars(raised)


def test_each_class_of_errors_has_a_code_of_its_own() -> None:
    assert len({each.code for each in KINDS}) == len(KINDS)


async def test_an_error_of_a_stores_own_kind_arrives_as_the_one_of_its_code(tmp_path: Path, service: Service) -> None:
    class OwnError(UnavailableError):
        def __init__(self) -> None:
            super().__init__("Away.", retry_after=2.0)

    def fail() -> None:
        raise OwnError

    service.then = fail
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(UnavailableError, match=r"Away\.") as arrived:
            await caller.call(Kind.UNARY, call_of())
    assert type(arrived.value) is UnavailableError


async def test_a_fault_of_the_owner_tells_the_caller_nothing_of_its_cause(tmp_path: Path, service: Service) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    service.then = fail
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(AirisError, match="failed to answer") as arrived:
            await caller.call(Kind.UNARY, call_of())
    assert "secret" not in str(vars(arrived.value))


async def test_the_owner_gives_up_what_takes_too_long(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(DeadlineExceededError):
            await caller.call(Kind.UNARY, call_of(seconds=0.05))


async def test_a_call_that_only_waits_is_no_load_to_the_frontend(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    service.then = load.only_waits
    waits = asyncio.Event()
    load.begin(waits.set)
    async with handed_over(tmp_path / "s", service) as (_, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, call_of()))
        async with asyncio.timeout(5):
            await waits.wait()
        assert not call.done()
        service.go.set()
        await call


async def test_an_owner_that_is_away_is_waited_for(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts, owner, began = [], owner_at(tmp_path / "s", service), asyncio.Event()
    sleep = asyncio.sleep

    async def after_an_attempt(seconds: float) -> None:
        attempts.append(seconds)
        if len(attempts) == 3:
            await owner.start()
            began.set()
        await sleep(0)

    monkeypatch.setattr(caller_module.asyncio, "sleep", after_an_attempt)
    caller = Caller(tmp_path / "s", "metrics")
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*(caller.call(Kind.UNARY, call_of()) for _ in range(3)))
    assert began.is_set()
    assert len(set(answers)) == 1
    # One looks for all.
    assert len(attempts) == 3
    await caller.close()
    await owner.stop()


async def test_an_owner_that_stays_away_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_module, "PATIENCE_SECONDS", 0.0)
    caller = Caller(tmp_path / "s", "metrics")
    for ask in (caller.call(Kind.UNARY, call_of()), caller.check()):
        with pytest.raises(UnavailableError, match="metrics service cannot be reached") as told:
            await ask
        assert told.value.retry_after
    await caller.close()


async def test_of_a_call_whose_owner_ends_it_is_said_that_nothing_is_known(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (owner, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, call_of()))
        await service.begun.get()
        for frontend in list(owner._frontends):
            frontend._transport.abort()
        with pytest.raises(UnavailableError, match="not known whether") as told:
            await call
        assert told.value.retry_after
        service.go.set()
        # The next one finds it again.
        assert await caller.call(Kind.UNARY, call_of())


async def test_an_owner_that_stops_answers_what_it_has_taken_and_the_next_owner_the_rest(
    tmp_path: Path, service: Service
) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (owner, caller):
        taken = asyncio.create_task(caller.call(Kind.UNARY, call_of(b"taken")))
        await service.begun.get()
        stopping = asyncio.create_task(owner.stop())
        await asyncio.sleep(0)
        late = asyncio.create_task(caller.call(Kind.UNARY, call_of(b"late")))
        with pytest.raises(UnavailableError):
            await Caller(tmp_path / "s", "metrics").check()
        next_owner = owner_at(tmp_path / "s", service)
        await next_owner.start()
        _, _, payload = await service.begun.get()
        assert payload == b"late"
        service.go.set()
        await stopping
        for call in (taken, late):
            assert StringValue.FromString(await call).value.startswith("unary")
        await next_owner.stop()


async def test_a_call_that_nobody_waits_for_is_not_worked_on(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    guarded_by = guard()
    async with handed_over(tmp_path / "s", service, guarded_by) as (owner, caller):
        for end in ("the caller leaves", "the frontend dies"):
            call = asyncio.create_task(caller.call(Kind.UNARY, call_of()))
            await service.begun.get()
            assert guarded_by.admission.snapshot().limit.in_flight == 1
            (frontend,) = owner._frontends
            (task,) = frontend.running.values()
            if end == "the caller leaves":
                call.cancel()
            else:
                await caller.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert is_empty(guarded_by)
            await asyncio.gather(call, return_exceptions=True)


async def test_a_call_that_comes_after_its_deadline_is_not_begun(tmp_path: Path, service: Service) -> None:
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(DeadlineExceededError):
            await caller.call(Kind.UNARY, call_of(seconds=-1))
    assert service.begun.empty()


async def test_calls_have_their_share_of_the_owners_load(tmp_path: Path, service: Service) -> None:
    guarded_by = guard()
    rule = guarded_by.rule(METHOD)
    most = rule.policy.bulkhead.max_concurrent + rule.policy.bulkhead.max_waiting
    service.go.clear()
    async with handed_over(tmp_path / "s", service, guarded_by) as (_, caller):
        calls = [asyncio.create_task(caller.call(Kind.UNARY, call_of())) for _ in range(most + 50)]
        done, _ = await asyncio.wait(calls, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(ResourceExhaustedError) as told:
            await done.pop()
        assert told.value.retry_after
        service.go.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in ended} == {bytes, ResourceExhaustedError}
    assert is_empty(guarded_by)


async def test_a_call_that_leaves_the_queue_for_a_place_leaves_it_empty(tmp_path: Path, service: Service) -> None:
    guarded_by = guard()
    pool = guarded_by.rule(METHOD).bulkhead
    service.go.clear()
    async with handed_over(tmp_path / "s", service, guarded_by) as (owner, caller):
        most = guarded_by.rule(METHOD).policy.bulkhead.max_concurrent
        for _ in range(most):
            await pool.acquire()
        call = asyncio.create_task(caller.call(Kind.UNARY, call_of()))
        await soon(lambda: pool.snapshot().waiting == 1)
        (frontend,) = owner._frontends
        (task,) = frontend.running.values()
        call.cancel()
        await asyncio.gather(call, task, return_exceptions=True)
        for _ in range(most):
            pool.release()
        assert is_empty(guarded_by)


async def soon(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0)


def is_empty(guarded_by: Guard) -> bool:
    """Whether every call has given back what it had."""
    pool = guarded_by.rule(METHOD).bulkhead.snapshot()
    return (guarded_by.admission.snapshot().limit.in_flight, pool.in_flight, pool.waiting) == (0, 0, 0)


async def test_a_request_that_is_too_large_ends_nobodys_connection(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_module, "MAX_MESSAGE_BYTES", 100)
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(InvalidArgumentError) as told:
            await caller.call(Kind.EXPORT, call_of(bytes(101)))
        assert told.value.reason == "SIZE_LIMIT_EXCEEDED"
        assert await caller.call(Kind.EXPORT, call_of(bytes(100)))


async def test_a_trace_goes_on_in_the_owner(tmp_path: Path, service: Service) -> None:
    seen = []
    service.then = lambda: seen.append(traceparent())
    parent = f"00-{'ab' * 16}-{'cd' * 8}-01"
    async with handed_over(tmp_path / "s", service) as (_, caller):
        for each in (parent, ""):
            await caller.call(Kind.UNARY, dataclasses.replace(call_of(), traceparent=each))
    assert seen == [parent, ""]


async def test_a_caller_that_leaves_leaves_nothing_behind(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, call_of()))
        await service.begun.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert caller._connection is not None
        assert not caller._connection._waiting
        service.go.set()
        assert await caller.call(Kind.UNARY, call_of())


async def test_no_more_is_read_than_there_is_room_for(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_MOST_BYTES", 1_000_000)
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        payload = bytes(400_000)
        calls = [asyncio.create_task(caller.call(Kind.EXPORT, call_of(payload))) for _ in range(40)]
        for _ in range(3):
            await service.begun.get()
        for _ in range(100):
            await asyncio.sleep(0)
        # What one look at the socket brings may be a little more.
        assert service.begun.qsize() <= 2
        service.go.set()
        assert len(await asyncio.gather(*calls)) == 40


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff" + bytes(20),
        (34 * 1024 * 1024).to_bytes(4, "little") + bytes(20),
        bytes(20),
        b"\x09\0\0\0" + bytes(8) + b"\x63",
        b"\x09\0\0\0" + bytes(8) + b"\x01",
        frame(1, Kind.ANSWER, bytes(20)),
        call_frame(1, Kind.UNARY, Call("\xe9" * 9, 1.0, b""))[:-1].replace(b"\xc3", b"\xff") + b"?",
    ],
    ids=["a length of all ones", "too long", "too short", "no kind", "no tenant", "no call", "no text"],
)
async def test_whoever_sends_no_frames_is_hung_up_on_and_others_are_answered(
    tmp_path: Path, service: Service, sent: bytes
) -> None:
    async with handed_over(tmp_path / "s", service) as (_, caller):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await _rest_of(reader) == b""
        writer.close()
        assert await caller.call(Kind.UNARY, call_of())


async def _rest_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, service: Service) -> None:
    owner = owner_at(tmp_path / "s", service)
    os.chmod(tmp_path, 0o711)
    with pytest.raises(InvalidArgumentError, match="chmod 700"):
        await owner.start()
    assert not (tmp_path / "s").exists()


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path, service: Service) -> None:
    served = HandedOver(tmp_path / "nowhere" / "s", service, "metrics.airis", METHOD)
    with pytest.raises(UnavailableError, match=r"handover\.folder, .*nowhere"):
        await Owner(served, guard()).start()


async def test_a_socket_that_a_killed_owner_left_is_in_nobodys_way(tmp_path: Path, service: Service) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "s"))
    async with handed_over(tmp_path / "s", service) as (_, caller):
        assert await caller.call(Kind.UNARY, call_of())


async def test_a_call_that_misses_its_deadline_tells_the_owner_of_too_much_load(
    tmp_path: Path, service: Service
) -> None:
    service.go.clear()
    guarded_by = guard()
    left: list[tuple[bool, bool]] = []
    leave = guarded_by.admission.leave

    def noted(started: float, dropped: bool = False, *, observed: bool = True) -> None:
        left.append((dropped, observed))
        leave(started, dropped, observed=observed)

    guarded_by.admission.leave = noted  # type: ignore[method-assign]
    async with handed_over(tmp_path / "s", service, guarded_by) as (owner, caller):
        asked = call_of(seconds=0.2)
        call = asyncio.create_task(caller.call(Kind.UNARY, asked))
        await service.begun.get()
        (frontend,) = owner._frontends
        (task,) = frontend.running.values()
        # As the timer of the frontend does, just before that of the owner.
        await soon(lambda: time.monotonic() >= asked.ends_at - 0.01)
        call.cancel()
        await asyncio.gather(call, task, return_exceptions=True)
    assert left == [(True, False)]
