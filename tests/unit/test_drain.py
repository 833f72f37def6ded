"""The loop of the workers: what happens between a failure and the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from fakes.token_store import TokenStore
from fakes.virtual_time import in_virtual_time

from services.shared.bus.drain import drain
from services.shared.bus.port import Batch, Header, Insert, Position
from services.shared.bus.repeats import Repeats
from services.shared.errors import UnavailableError


def decode(header: Header, payload: bytes) -> bytes:
    if payload == b"poison":
        raise ValueError("the payload is no batch")
    return payload


def insert(*names: str, payload: bytes = b"wire") -> Insert[bytes]:
    batches = [
        (Position(number), Batch(Header("t", "m", 1, 1, request_id=name), payload, decode))
        for number, name in enumerate(names, 1)
    ]
    return Insert(f"token {names}", Position(len(names)), batches)


class Group:
    """A consumer whose inserts may go to another worker."""

    def __init__(self, *inserts: Insert[bytes]) -> None:
        self.inserts = list(inserts)
        self.committed: list[str] = []
        self.aside: list[Position] = []
        self.commits_refused = 0
        self.done = asyncio.Event()

    def lose(self) -> None:
        del self.inserts[0]

    async def next_insert(self) -> Insert[bytes]:
        if not self.inserts:
            self.done.set()
            await asyncio.Event().wait()
        return self.inserts[0]

    async def commit(self, committed: Insert[bytes]) -> None:
        if self.commits_refused:
            self.commits_refused -= 1
            raise UnavailableError("Kafka is away.")
        self.committed.append(committed.token)
        del self.inserts[0]

    async def set_aside(self, position: Position, batch: Batch[bytes], error: Exception) -> None:
        self.aside.append(position)


class Store(TokenStore):
    """Refuses as many writes as it is told to, and notes when each was tried."""

    def __init__(self, refused: int = 0) -> None:
        super().__init__()
        self.refused = refused
        self.tried: list[tuple[float, str]] = []
        self.repeated_tries: list[bool] = []

    async def write(self, batches: Sequence[tuple[Header, object]], token: str, is_repeated: bool = False) -> None:
        self.tried.append((asyncio.get_running_loop().time(), token))
        self.repeated_tries.append(is_repeated)
        if self.refused:
            self.refused -= 1
            self.failed()
            raise UnavailableError("The store is away.")
        await super().write(batches, token, is_repeated)

    def failed(self) -> None:
        """Called when a write is refused."""


def drained(group: Group, store: Store) -> None:
    """Drains until nothing is left."""

    async def main() -> None:
        worker = asyncio.create_task(drain(group, store.write, Repeats(store), jitter=lambda: 1.0))
        await group.done.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    in_virtual_time(main())


def test_an_insert_that_went_to_another_worker_is_not_written_any_more() -> None:
    lost, kept = insert("a", "b"), insert("c")
    group, store = Group(lost, kept), Store(refused=1)
    store.failed = group.lose  # type: ignore[method-assign]
    drained(group, store)
    assert [token for _, token in store.tried] == [lost.token, kept.token]
    assert group.committed == [kept.token]


def test_what_another_worker_has_stored_meanwhile_is_known_by_its_ids() -> None:
    ours = insert("a", "b", "c")
    group, store = Group(ours), Store(refused=1)

    def store_elsewhere() -> None:
        # The token is long forgotten; the ids are not.
        store.inserts["another token"] = [batch.header for _, batch in ours.batches[:2]]

    store.failed = store_elsewhere  # type: ignore[method-assign]
    drained(group, store)
    assert store.stored == {"a": 1, "b": 1, "c": 1}
    assert group.committed == [ours.token]


def test_a_failed_commit_does_not_repeat_the_write() -> None:
    # Without ids only the token would tell a repetition, and stores forget tokens.
    ours, other = insert("", ""), insert("c")
    group, store = Group(ours, other), Store()
    group.commits_refused = 3
    drained(group, store)
    assert [token for _, token in store.tried] == [ours.token, other.token]
    assert group.committed == [ours.token, other.token]


def test_what_cannot_be_read_is_set_aside_once_however_often_the_rest_is_tried() -> None:
    good, bad = insert("a", "b"), insert("x", "y", "z", payload=b"poison")
    mixed = Insert("mixed", Position(3), [*good.batches, bad.batches[2]])
    group, store = Group(mixed), Store(refused=3)
    drained(group, store)
    assert group.aside == [3]
    assert store.stored == {"a": 1, "b": 1}
    assert group.committed == ["mixed"]


def test_a_store_that_is_away_is_asked_again_with_growing_delays_up_to_a_bound() -> None:
    first, second = insert("a"), insert("b")
    group, store = Group(first, second), Store(refused=9)
    drained(group, store)
    moments = [moment for moment, _ in store.tried]
    delays = [round(after - before, 3) for before, after in zip(moments, moments[1:], strict=False)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 0.0]


def test_a_store_is_told_which_inserts_may_have_been_cut_off() -> None:
    first, second = insert("a"), insert("b")
    taken_over = replace(insert("c"), is_repeated=True)
    group, store = Group(first, second, taken_over), Store(refused=2)
    drained(group, store)
    tries = [(token, repeated) for (_, token), repeated in zip(store.tried, store.repeated_tries, strict=True)]
    assert tries == [
        (first.token, False),
        (first.token, True),
        (first.token, True),
        (second.token, False),
        (taken_over.token, True),
    ]
