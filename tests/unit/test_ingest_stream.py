"""The server's side of an ingest stream: what it acknowledges is taken, whatever order outcomes come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from airis.metrics.v1 import metrics_pb2

from services.metrics.rpc import INGEST
from services.shared.bus.ingest import CheckedRequest, Ingest
from services.shared.bus.intake import Intake, Origin, Receipt
from services.shared.bus.port import Batch, Position
from services.shared.bus.recent_ids import RecentIds
from services.shared.errors import (
    FailedPreconditionError,
    FieldViolation,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)
from services.shared.rpc.ingest_methods import IngestMethods
from services.shared.rpc.ingest_stream import StreamDialect, batch_sequence, serve_stream


class Peer:
    """A sender and a store whose outcomes the test decides, batch by batch."""

    def __init__(self, settled: int = 0) -> None:
        self._settled = settled
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.begun: asyncio.Queue[tuple[int, asyncio.Future[Receipt]]] = asyncio.Queue()
        self.refused: list[int] = []
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.responses = serve_stream(
            self._requests(),
            StreamDialect(
                "metrics.airis",
                metrics_pb2.StreamMetricsRequest,
                metrics_pb2.StreamMetricsResponse,
                self._ingest,
                settle=lambda _, sequence: self.refused.append(sequence),
                resume_after=self._resume_after,
                ended=lambda _: None,
            ),
        )

    async def _resume_after(self, producer_id: str, known: int | None) -> int:
        return max(self._settled, known or 0)

    async def _requests(self) -> AsyncIterator[bytes]:
        while (payload := await self.requests.get()) is not None:
            yield payload

    async def _ingest(self, payload: bytes, producer_id: str, sequence: int) -> Receipt:
        outcome: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        await self.begun.put((sequence, outcome))
        return await outcome

    def open(self) -> None:
        self.requests.put_nowait(metrics_pb2.StreamMetricsRequest(open={"producer_id": "p"}).SerializeToString())

    def send(self, *sequences: int) -> None:
        for sequence in sequences:
            message = metrics_pb2.StreamMetricsRequest(batch={"sequence": sequence, "metrics": [{"name": "m"}]})
            self.requests.put_nowait(message.SerializeToString())

    def follow(self) -> None:
        """Takes responses as they come, as gRPC does."""

        async def pump() -> None:
            async for response in self.responses:
                self.answers.put_nowait(response)

        self.pump = asyncio.create_task(pump())

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            return await self.answers.get()

    async def outcome_of(self, expected: int) -> asyncio.Future[Receipt]:
        async with asyncio.timeout(5):
            sequence, outcome = await self.begun.get()
        assert sequence == expected
        return outcome


async def idle() -> None:
    """Lets everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


TAKEN = Receipt(1, {}, "1")


async def opened(settled: int = 0) -> Peer:
    peer = Peer(settled)
    peer.open()
    peer.follow()
    assert (await peer.next()).opened.resume_after == settled
    return peer


async def test_an_ack_covers_all_before_it_whatever_finished_first() -> None:
    peer = await opened()
    peer.send(1, 2)
    first, second = await peer.outcome_of(1), await peer.outcome_of(2)
    second.set_result(TAKEN)
    waiting = asyncio.ensure_future(peer.next())
    await idle()
    assert not waiting.done()
    first.set_result(TAKEN)
    assert (await waiting).ack.through_sequence == 2


async def test_a_throttled_batch_is_not_acknowledged_by_a_later_one_that_was_taken() -> None:
    peer = await opened()
    peer.send(1, 2, 3)
    outcomes = [await peer.outcome_of(sequence) for sequence in (1, 2, 3)]
    outcomes[0].set_exception(ResourceExhaustedError("full", retry_after=0.5))
    answer = await peer.next()
    assert answer.throttle.from_sequence == 1
    assert answer.throttle.retry_delay.ToMilliseconds() == 500
    # The sender repeats at once, before what became of 2 and 3 is known: both were taken.
    peer.send(1, 2, 3)
    again = await peer.outcome_of(1)
    outcomes[1].set_result(TAKEN)
    outcomes[2].set_result(TAKEN)
    waiting = asyncio.ensure_future(peer.next())
    second, third = await peer.outcome_of(2), await peer.outcome_of(3)
    await idle()
    assert not waiting.done()
    for outcome in (again, second, third):
        outcome.set_result(TAKEN)
    assert (await waiting).ack.through_sequence == 3


async def test_what_comes_after_a_throttle_is_dropped_until_the_sender_goes_back() -> None:
    peer = await opened()
    peer.send(1)
    (await peer.outcome_of(1)).set_exception(ResourceExhaustedError("full"))
    assert (await peer.next()).HasField("throttle")
    peer.send(2, 3, 1)
    (await peer.outcome_of(1)).set_result(TAKEN)
    assert (await peer.next()).ack.through_sequence == 1


async def test_a_batch_refused_whole_counts_as_settled() -> None:
    peer = await opened()
    peer.send(1, 2, 3)
    (await peer.outcome_of(1)).set_exception(InvalidArgumentError("bad"))
    violation = FieldViolation("metrics[0].name", "is empty")
    (await peer.outcome_of(2)).set_result(Receipt(1, {0: violation}, "1"))
    (await peer.outcome_of(3)).set_result(Receipt(0, {0: violation}, ""))
    answers = [await peer.next() for _ in range(4)]
    assert answers[0].rejection.sequence == 1
    assert answers[0].rejection.status.code == 3
    assert [item.index for item in answers[1].rejection.items] == [0]
    assert [item.index for item in answers[2].rejection.items] == [0]
    assert answers[3].ack.through_sequence == 3
    assert peer.refused == [1, 3]


@pytest.mark.parametrize("messages", [[("batch", 1)], [("open", 0), ("open", 0)], [("open", 0), ("batch", 0)]])
async def test_a_stream_that_does_not_keep_the_order_is_ended(messages: list[tuple[str, int]]) -> None:
    peer = Peer()
    for kind, sequence in messages:
        if kind == "open":
            peer.open()
        else:
            peer.send(sequence)
    peer.requests.put_nowait(None)
    with pytest.raises(InvalidArgumentError):
        async for _ in peer.responses:
            pass


def test_the_sequence_is_found_wherever_it_stands_in_the_batch() -> None:
    first = metrics_pb2.StreamMetricsRequest(batch={"sequence": 300, "metrics": [{"name": "m"}]}).SerializeToString()
    metric = metrics_pb2.Metric(name="m").SerializeToString()
    body = b"\x12" + bytes([len(metric)]) + metric + b"\x08\xac\x02"
    assert batch_sequence(first) == 300
    assert batch_sequence(b"\x12" + bytes([len(body)]) + body) == 300
    assert batch_sequence(metrics_pb2.StreamMetricsRequest(open={"producer_id": "p"}).SerializeToString()) is None
    with pytest.raises(InvalidArgumentError):
        batch_sequence(b"\x12\xff")


async def test_a_stream_that_is_cut_off_lets_go_of_all_its_batches_at_once() -> None:
    peer = await opened()
    peer.send(1, 2)
    first, second = await peer.outcome_of(1), await peer.outcome_of(2)
    await idle()
    peer.pump.cancel()
    # If the first alone were given up here, the second could be taken before it.
    assert not first.cancelled()
    await idle()
    assert first.cancelled()
    assert second.cancelled()


async def test_a_batch_that_could_not_be_looked_at_is_not_overtaken() -> None:
    noted: list[tuple[str, int]] = []

    class Intake:
        async def resume_after(self, *_: Any) -> int:
            return 0

        def refuse_behind(self, origin: Any) -> None:
            noted.append((origin.producer_id, origin.sequence))

    class Ingest:
        intake = Intake()

        async def check(self, *_: Any) -> Any:
            raise MemoryError

    async def requests() -> AsyncIterator[bytes]:
        yield metrics_pb2.StreamMetricsRequest(open={"producer_id": "p"}).SerializeToString()
        yield metrics_pb2.StreamMetricsRequest(batch={"sequence": 7}).SerializeToString()

    ingest: Any = Ingest()
    with pytest.raises(MemoryError):
        async for _ in IngestMethods(INGEST, ingest).stream(requests()):
            pass
    assert noted == [("p", 7)]


async def test_what_an_earlier_stream_has_not_begun_is_not_taken_once_another_was_opened() -> None:
    taken: list[tuple[bytes, int]] = []
    may_check = asyncio.Event()

    class Ingest:
        """Checks when it is let."""

        class intake:  # noqa: N801 (stands in for an object)
            @staticmethod
            async def resume_after(*_: Any) -> int:
                return 0

            @staticmethod
            def settle(*_: Any) -> None:
                pass

        async def check(self, _: str, __: str, payload: bytes) -> Any:
            await may_check.wait()

        async def take(self, origin: Origin, payload: bytes, _: Any) -> Receipt:
            taken.append((payload, origin.sequence))
            return Receipt(1, {}, "")

    def batch(name: str) -> bytes:
        message = metrics_pb2.StreamMetricsRequest(batch={"sequence": 1, "metrics": [{"name": name}]})
        return message.SerializeToString()

    async def requests(name: str) -> AsyncIterator[bytes]:
        yield metrics_pb2.StreamMetricsRequest(open={"producer_id": "p"}).SerializeToString()
        yield batch(name)

    ingest: Any = Ingest()
    methods = IngestMethods(INGEST, ingest)
    former, later = methods.stream(requests("former")), methods.stream(requests("later"))
    assert (await anext(former)).HasField("opened")
    answer = asyncio.create_task(anext(former))
    await idle()
    assert (await anext(later)).HasField("opened")
    may_check.set()
    with pytest.raises(FailedPreconditionError, match="Another stream of the producer p"):
        await answer
    assert [response.ack.through_sequence async for response in later] == [1]
    assert taken == [(batch("later"), 1)]
    # Nothing of streams that are over is kept.
    assert not methods._newest


class Bus:
    """Takes batches once it is let, or fails."""

    def __init__(self) -> None:
        self.may_publish = asyncio.Event()
        self.fails = False
        self.taken: list[bytes] = []

    async def publish(self, batch: Batch[bytes]) -> Position:
        await self.may_publish.wait()
        if self.fails:
            raise UnavailableError("It is not known whether the batch was taken.")
        self.taken.append(batch.payload)
        return Position(len(self.taken))

    def note_settled(self, *_: object) -> None:
        pass


def methods_on(bus: Any) -> IngestMethods[Any]:
    """The ingest methods of a service whose check goes by the name of a batch's metric."""

    class Checked(Ingest[Any, bytes]):
        async def check(self, message_type: str, tenant: str, payload: bytes) -> CheckedRequest[bytes]:
            name = metrics_pb2.StreamMetricsRequest.FromString(payload).batch.metrics[0].name
            if name == "malformed":
                raise InvalidArgumentError(name)
            rejected = {0: FieldViolation("metrics[0].name", name)} if name == "empty" else {}
            return CheckedRequest(payload, rejected, 1, 1, {})

    intake: Intake[bytes] = Intake(bus, RecentIds(clock=lambda: 1), lambda _, payload: payload, lambda: 1)
    unused: Any = None
    return IngestMethods(INGEST, Checked(unused, unused, intake))


def named(sequence: int, name: str) -> bytes:
    message = metrics_pb2.StreamMetricsRequest(batch={"sequence": sequence, "metrics": [{"name": name}]})
    return message.SerializeToString()


async def sent(*batches: bytes) -> AsyncIterator[bytes]:
    yield metrics_pb2.StreamMetricsRequest(open={"producer_id": "p"}).SerializeToString()
    for batch in batches:
        yield batch


@pytest.mark.parametrize("refused", ["malformed", "empty"])
async def test_a_number_that_another_stream_may_have_given_again_is_not_settled(refused: str) -> None:
    bus = Bus()
    methods = methods_on(bus)
    former = methods.stream(sent(named(1, "a"), named(2, refused)))
    assert (await anext(former)).HasField("opened")
    answer = asyncio.create_task(anext(former))
    await idle()
    # The sender comes back and goes on behind what was taken, with other data.
    later = methods.stream(sent(named(2, "b")))
    opened = asyncio.create_task(anext(later))
    await idle()
    assert not opened.done()
    bus.may_publish.set()
    assert (await opened).opened.resume_after == 1
    assert (await answer).rejection.sequence == 2
    assert [response.ack.through_sequence async for response in later] == [2]
    assert bus.taken == [named(1, "a"), named(2, "b")]


async def test_a_batch_without_items_to_be_stored_is_not_settled_before_those_before_it() -> None:
    bus = Bus()
    methods = methods_on(bus)
    former = methods.stream(sent(named(1, "a"), named(2, "empty")))
    assert (await anext(former)).HasField("opened")
    answer = asyncio.create_task(anext(former))
    await idle()
    bus.fails = True
    bus.may_publish.set()
    with pytest.raises(UnavailableError):
        await answer
    bus.fails = False
    later = methods.stream(sent(named(1, "b"), named(2, "c")))
    assert (await anext(later)).opened.resume_after == 0
    assert [response.ack.through_sequence async for response in later][-1] == 2
    assert bus.taken == [named(1, "b"), named(2, "c")]


@pytest.mark.parametrize("refused", ["malformed", "empty"])
async def test_a_number_behind_a_refused_batch_that_was_taken_is_not_given_to_other_data(refused: str) -> None:
    bus = Bus()
    methods = methods_on(bus)
    former = methods.stream(sent(named(1, "a"), named(2, refused), named(3, "c")))
    assert (await anext(former)).HasField("opened")
    answer = asyncio.create_task(anext(former))
    await idle()
    # The sender dies before anything is answered, comes back, and goes on with other data.
    answer.cancel()
    await asyncio.wait([answer])
    await former.aclose()
    bus.may_publish.set()
    later = methods.stream(sent(named(4, "d")))
    assert (await anext(later)).opened.resume_after == 3
    assert [response.ack.through_sequence async for response in later] == [4]
    assert bus.taken == [named(1, "a"), named(3, "c"), named(4, "d")]


async def test_a_batch_that_is_sent_again_behind_a_later_one_takes_no_acknowledgement_back() -> None:
    bus = Bus()
    bus.may_publish.set()
    goes_on = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        async for payload in sent(named(1, "a")):
            yield payload
        await goes_on.wait()
        yield named(2, "b")
        yield named(1, "a")

    stream = methods_on(bus).stream(requests())
    assert (await anext(stream)).HasField("opened")
    assert (await anext(stream)).ack.through_sequence == 1
    bus.may_publish.clear()
    goes_on.set()
    answer = asyncio.create_task(anext(stream))
    await idle()
    bus.may_publish.set()
    assert (await answer).ack.through_sequence == 2
    assert bus.taken == [named(1, "a"), named(2, "b")]
