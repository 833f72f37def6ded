"""The service map is kept up to date behind the ingest: what fails is tried again, in smaller pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from fakes.token_store import TokenStore
from trace_world import columns_of

from services.shared.bus.port import Batch, Header, Insert, Position
from services.shared.bus.repeats import Repeats
from services.shared.errors import AirisError, ResourceExhaustedError, UnavailableError
from services.traces.config import TracesConfig
from services.traces.model import Span, SpanColumns
from services.traces.stale_minutes import StaleMinutes
from services.traces.worker import keep_edges, run

MINUTE_NS = 60_000_000_000


class Inserts:
    """Hands these out, one after the other, and then nothing."""

    def __init__(self, *inserts: Insert[SpanColumns]) -> None:
        self._inserts = list(inserts)

    async def next_insert(self) -> Insert[SpanColumns]:
        if not self._inserts:
            await asyncio.Event().wait()
        return self._inserts[0]

    async def commit(self, insert: Insert[SpanColumns]) -> None:
        self._inserts.remove(insert)


class Edges:
    """Refuses what `failures` say, and remembers what succeeded."""

    def __init__(self, stale: StaleMinutes, most: int = 1000, failures: list[AirisError] | None = None) -> None:
        self.found: list[int] = []
        self.asked: list[tuple[int, int]] = []
        self.done = asyncio.Event()
        self._stale = stale
        self._most = most
        self._failures = failures or []

    async def refresh_edges(self, first_minute: int, last_minute: int) -> None:
        self.asked.append((first_minute, last_minute))
        if self._failures:
            raise self._failures.pop()
        if last_minute - first_minute + 1 > self._most:
            raise ResourceExhaustedError("too many spans", reason="RESULT_TOO_LARGE")
        self.found += range(first_minute, last_minute + 1)
        if not len(self._stale):
            self.done.set()


async def run_until_done(edges: Edges, stale: StaleMinutes) -> None:
    task = asyncio.create_task(keep_edges(edges, stale, 0.001))
    await asyncio.wait_for(edges.done.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_every_stale_minute_is_found_once_newest_first() -> None:
    stale = StaleMinutes(600)
    stale.mark(range(100, 140))
    edges = Edges(stale)
    await run_until_done(edges, stale)
    assert sorted(edges.found) == list(range(100, 140))
    assert edges.asked[0][1] == 139


async def test_minutes_that_are_too_many_at_once_are_taken_in_smaller_pieces() -> None:
    stale = StaleMinutes(600)
    stale.mark(range(16))
    edges = Edges(stale, most=3)
    await run_until_done(edges, stale)
    assert sorted(edges.found) == list(range(16))


async def test_a_store_that_does_not_answer_is_asked_again() -> None:
    stale = StaleMinutes(600)
    stale.mark([7])
    edges = Edges(stale, failures=[UnavailableError("away", retry_after=1.0)] * 2)
    await run_until_done(edges, stale)
    assert edges.found == [7]


async def test_a_single_minute_that_cannot_be_found_does_not_keep_the_others_waiting() -> None:
    stale = StaleMinutes(600)
    stale.mark([7, 5])
    edges = Edges(stale, failures=[ResourceExhaustedError("too many spans", reason="RESULT_TOO_LARGE")])
    await run_until_done(edges, stale)
    assert edges.found == [5]


async def test_after_a_long_pause_the_minutes_before_it_are_found_too() -> None:
    now, newest = 30_000_000, 29_000_000
    found: set[int] = set()
    both = asyncio.Event()

    class Store:
        async def refresh_edges(self, first_minute: int, last_minute: int) -> None:
            found.update(range(first_minute, last_minute + 1))
            if {now, newest} <= found:
                both.set()

        async def newest_minute(self, until: int) -> int | None:
            assert until == now
            return newest

        async def write(self, batches: object, token: str, is_repeated: bool) -> None:
            raise AssertionError("nothing came")

    store = Store()
    config = TracesConfig(edge_interval=0.001, edge_lateness=120)
    task = asyncio.create_task(run(Inserts(), store, store, config, lambda: now * MINUTE_NS))  # type: ignore[arg-type]
    await asyncio.wait_for(both.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found == {*range(now - 2, now + 1), *range(newest - 2, newest + 1)}


async def test_spans_that_the_store_has_although_it_did_not_say_so_are_looked_at() -> None:
    now, minute = 30_000_000, 29_999_000
    begin = minute * MINUTE_NS + MINUTE_NS // 2
    span = Span("1" * 32, "1" * 16, "", "GET", "checkout", begin, begin + 1)
    header = Header("default", "m", now * MINUTE_NS, 1, request_id="r")
    found = asyncio.Event()

    class Store(TokenStore):
        async def refresh_edges(self, first_minute: int, last_minute: int) -> None:
            if first_minute <= minute <= last_minute:
                found.set()

        async def newest_minute(self, until: int) -> int | None:
            return None

        async def write(self, batches: Sequence[tuple[Header, object]], token: str, is_repeated: bool = False) -> None:
            await super().write(batches, token, is_repeated)
            raise UnavailableError("The answer was lost.")

    store = Store()
    columns = columns_of([span], now * MINUTE_NS)
    inserts = Inserts(Insert("t", Position(1), [(Position(1), Batch(header, b"", lambda *_: columns))]))
    config = TracesConfig(edge_interval=0.001, edge_lateness=120)
    task = asyncio.create_task(
        run(inserts, store, store, config, lambda: now * MINUTE_NS, Repeats(store))  # type: ignore[arg-type]
    )
    await asyncio.wait_for(found.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.repeated == []
