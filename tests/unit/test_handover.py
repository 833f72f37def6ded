"""Calls that a frontend takes are answered by the owner as if it had been called itself."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from resilience import deadline, load
from services.shared import errors
from services.shared.errors import AirisError, DeadlineExceededError, FieldViolation, UnavailableError
from services.shared.handover import caller as caller_module
from services.shared.handover import owner as owner_module
from services.shared.handover.caller import Caller
from services.shared.handover.frames import MOST_BYTES, Call, Kind, call_frame, frame
from services.shared.handover.owner import Owner
from services.shared.rpc.context import tenant

CALL = Call("korea", 5.0, b"payload")


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
async def handed_over(path: Path, service: Any) -> AsyncIterator[tuple[Owner, Caller]]:
    owner, caller = Owner(path, service, "metrics.airis"), Caller(path, "metrics")
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
        answer = StringValue.FromString(await caller.call(kind, CALL))
    assert answer.value == f"{kind.name.lower()} korea 7 True"
    assert await service.begun.get() == (kind.name.lower(), "korea", b"payload")


async def test_calls_of_any_size_are_answered_each_its_own(tmp_path: Path, service: Service) -> None:
    sizes = [0, 1, 70_000, 3_000_000, 5] * 20
    async with handed_over(tmp_path / "s", service) as (_, caller):
        answers = await asyncio.gather(*(caller.call(Kind.EXPORT, Call("a", 30.0, bytes(size))) for size in sizes))
    assert [StringValue.FromString(answer).value for answer in answers] == [f"export a {n} True" for n in sizes]


@pytest.mark.parametrize("kind", [AirisError, *AirisError.__subclasses__()])
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
            await caller.call(Kind.UNARY, CALL)
    assert type(arrived.value) is kind
    assert vars(arrived.value) == vars(raised)


def test_each_class_of_errors_has_a_code_of_its_own() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AirisError)]
    assert len({each.code for each in kinds}) == len(kinds)
    assert set(kinds) == {AirisError, *AirisError.__subclasses__()}


async def test_a_fault_of_the_owner_tells_the_caller_nothing_of_its_cause(tmp_path: Path, service: Service) -> None:
    def fail() -> None:
        raise RuntimeError("secret")

    service.then = fail
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(AirisError, match="failed to answer") as arrived:
            await caller.call(Kind.UNARY, CALL)
    assert "secret" not in str(vars(arrived.value))


async def test_the_owner_gives_up_what_takes_too_long(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        with pytest.raises(DeadlineExceededError):
            await caller.call(Kind.UNARY, Call("a", 0.01, b""))


async def test_a_call_that_only_waits_is_no_load_to_the_frontend(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    service.then = load.only_waits
    waits = asyncio.Event()
    load.begin(waits.set)
    async with handed_over(tmp_path / "s", service) as (_, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, CALL))
        async with asyncio.timeout(5):
            await waits.wait()
        assert not call.done()
        service.go.set()
        await call


async def test_an_owner_that_is_away_is_waited_for(tmp_path: Path, service: Service) -> None:
    caller = Caller(tmp_path / "s", "metrics")
    calls = [asyncio.create_task(caller.call(Kind.UNARY, CALL)) for _ in range(3)]
    await asyncio.sleep(0)
    owner = Owner(tmp_path / "s", service, "metrics.airis")
    await owner.start()
    async with asyncio.timeout(5):
        assert len(set(await asyncio.gather(*calls))) == 1
    await caller.close()
    await owner.stop()


async def test_an_owner_that_stays_away_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller_module, "PATIENCE_SECONDS", 0.0)
    caller = Caller(tmp_path / "s", "metrics")
    for ask in (caller.call(Kind.UNARY, CALL), caller.check()):
        with pytest.raises(UnavailableError, match="metrics service is away") as told:
            await ask
        assert told.value.retry_after
    await caller.close()


async def test_of_a_call_whose_owner_ends_it_is_said_that_nothing_is_known(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (owner, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, CALL))
        await service.begun.get()
        for frontend in owner._frontends:
            frontend._transport.abort()
        with pytest.raises(UnavailableError, match="not known whether") as told:
            await call
        assert told.value.retry_after
        service.go.set()
        # The next one finds it again.
        assert await caller.call(Kind.UNARY, CALL)


async def test_an_owner_that_stops_answers_what_it_has_taken_and_nothing_more(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_module, "PATIENCE_SECONDS", 0.0)
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (owner, caller):
        taken = asyncio.create_task(caller.call(Kind.UNARY, CALL))
        await service.begun.get()
        stopping = asyncio.create_task(owner.stop())
        await asyncio.sleep(0)
        late = asyncio.create_task(caller.call(Kind.UNARY, CALL))
        with pytest.raises(UnavailableError):
            await Caller(tmp_path / "s", "metrics").check()
        service.go.set()
        await stopping
        assert StringValue.FromString(await taken).value.startswith("unary")
        with pytest.raises(UnavailableError):
            await late
    assert service.begun.empty()


async def test_a_caller_that_leaves_leaves_nothing_behind(tmp_path: Path, service: Service) -> None:
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        call = asyncio.create_task(caller.call(Kind.UNARY, CALL))
        await service.begun.get()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert caller._connection is not None
        assert not caller._connection._waiting
        service.go.set()
        assert await caller.call(Kind.UNARY, CALL)


async def test_no_more_is_read_than_there_is_room_for(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_MOST_BYTES", 1_000_000)
    service.go.clear()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        payload = bytes(400_000)
        calls = [asyncio.create_task(caller.call(Kind.EXPORT, Call("a", 30.0, payload))) for _ in range(40)]
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
        (MOST_BYTES + 1).to_bytes(4, "little") + bytes(20),
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
        assert await caller.call(Kind.UNARY, CALL)


async def _rest_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_nobody_else_may_use_the_socket(tmp_path: Path, service: Service) -> None:
    async with handed_over(tmp_path / "s", service):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


async def test_a_socket_that_a_killed_owner_left_is_in_nobodys_way(tmp_path: Path, service: Service) -> None:
    killed = Owner(tmp_path / "s", service, "metrics.airis")
    await killed.start()
    async with handed_over(tmp_path / "s", service) as (_, caller):
        assert await caller.call(Kind.UNARY, CALL)
    await killed.stop()
