"""Publishing, consuming, committing, closing and dying in any order: the journal against a model of it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.shared.bus.adapters.journal import Journal
from services.shared.bus.adapters.journal_backlog import COLUMNS_BYTES
from services.shared.bus.port import Batch, Header, Insert, InsertLimits

# The clock stands still: nothing may wait for it.
LIMITS = InsertLimits(max_items=10, max_bytes=600, max_age=0.0, interval=0.0)


def decode(header: Header, payload: bytes) -> bytes:
    return payload


# Two or three batches.
HELD_BYTES = 2 * COLUMNS_BYTES + 300


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp())
        self.generation = 0
        self.directory = self.root / "0"
        self.published: dict[int, tuple[Header, bytes]] = {}
        self.committed = 0
        self.under_way: Insert[bytes] | None = None
        self.handed_out_before = ""
        self.tokens: dict[str, list[int]] = {}
        self.journal = self.open()

    def open(self) -> Journal[bytes]:
        journal = Journal(
            self.directory, decode, limits=LIMITS, segment_bytes=500, max_held_bytes=HELD_BYTES, clock=lambda: 0.0
        )
        self.loop.run_until_complete(journal.open())
        return journal

    @rule(batches=st.lists(st.tuples(st.integers(1, 12), st.binary(max_size=200)), min_size=1, max_size=6))
    def publish(self, batches: list[tuple[int, bytes]]) -> None:
        headers = [
            Header("default", "m", 5, items, f"r{len(self.published)}-{n}") for n, (items, _) in enumerate(batches)
        ]

        async def run() -> list[int]:
            calls = zip(headers, batches, strict=True)
            return await asyncio.gather(
                *(self.journal.publish(Batch(header, payload, decode)) for header, (_, payload) in calls)
            )

        positions = self.loop.run_until_complete(run())
        first = len(self.published) + 1
        assert positions == list(range(first, first + len(batches)))
        for position, header, (_, payload) in zip(positions, headers, batches, strict=True):
            self.published[position] = header, payload

    @precondition(lambda self: self.committed < len(self.published))
    @rule()
    def consume(self) -> None:
        insert = self.loop.run_until_complete(asyncio.wait_for(self.journal.next_insert(), 10))
        if self.under_way is not None:
            assert insert.token == self.under_way.token
        if self.handed_out_before:
            assert insert.token == self.handed_out_before
        positions = [int(position) for position, _ in insert.batches]
        assert positions == list(range(self.committed + 1, insert.last + 1))
        assert self.tokens.setdefault(insert.token, positions) == positions
        for position, batch in insert.batches:
            assert (batch.header, batch.payload) == self.published[position]
        if len(positions) > 1:
            assert sum(batch.header.item_count for _, batch in insert.batches) <= LIMITS.max_items
            assert sum(len(batch.payload) for _, batch in insert.batches) <= LIMITS.max_bytes
        self.under_way = insert

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def commit(self) -> None:
        assert self.under_way is not None
        self.loop.run_until_complete(self.journal.commit(self.under_way))
        self.committed = self.under_way.last
        self.under_way = None
        self.handed_out_before = ""

    @rule()
    def close_and_reopen(self) -> None:
        self.loop.run_until_complete(self.journal.close())
        self.reopen()

    @rule()
    def die_and_reopen(self) -> None:
        """What a killed process leaves: the files as they are, without a close."""
        self.generation += 1
        left = self.root / str(self.generation)
        shutil.copytree(self.directory, left)
        self.loop.run_until_complete(self.journal.close())
        shutil.rmtree(self.directory)
        self.directory = left
        self.reopen()

    def reopen(self) -> None:
        if self.under_way is not None:
            self.handed_out_before = self.under_way.token
            self.under_way = None
        self.journal = self.open()

    @invariant()
    def knows_what_is_not_committed(self) -> None:
        assert self.loop.run_until_complete(self.journal.committed()) == (self.committed,)
        expected = [(n, self.published[n][0]) for n in range(self.committed + 1, len(self.published) + 1)]
        assert list(self.journal.uncommitted()) == expected
        assert (self.journal.backlog_bytes == 0) == (not expected)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.journal.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
