"""Tasks that come, wait, are cancelled and go in any order: the bulkhead against a plain model of it."""

from __future__ import annotations

import asyncio

import pytest
from fakes.clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilience import deadline
from resilience.bulkhead import Bulkhead
from resilience.errors import BulkheadFullError

MAX_WAIT, STANDING = 10.0, 0.3


class BulkheadMachine(RuleBasedStateMachine):
    """The model is a set of those inside and a list of those who wait, with the time at which each gives up.

    Each rule leaves the loop unrun, so that a release, a cancellation and a timeout can meet, until `settle`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(0.0)
        self.names = 0
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.inside: list[int] = []
        self.admitted: list[int] = []
        self.queue: list[tuple[int, float]] = []
        self.since: dict[int, float] = {}
        self.queued_since = 0.0
        self.stands = False
        self.cancelled: set[int] = set()
        self.refused: set[int] = set()
        self.order: list[int] = []

    @initialize(places=st.integers(1, 3), waiting=st.integers(0, 4))
    def begin(self, places: int, waiting: int) -> None:
        self.places, self.waiting = places, waiting
        self.bulkhead = Bulkhead(
            "pool",
            places,
            waiting,
            MAX_WAIT,
            standing=STANDING,
            clock=self.clock,
            call_later=self.clock.call_later,
        )

    def teardown(self) -> None:
        if hasattr(self, "bulkhead"):
            self.settle()
            for name, _ in self.queue:
                self.tasks[name].cancel()
            self.run_loop()
            for _ in self.inside:
                self.bulkhead.release()
            snapshot = self.bulkhead.snapshot()
            assert (snapshot.in_flight, snapshot.waiting) == (0, 0)
        self.loop.close()

    def run_loop(self) -> None:
        async def turns() -> None:
            for _ in range(20):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def admit(self) -> None:
        """Gives the free places to those who have waited longest."""
        while self.queue and len(self.inside) < self.places:
            self.inside.append(self.queue.pop(0)[0])
            self.admitted.append(self.inside[-1])

    async def visit(self, name: int) -> None:
        await self.bulkhead.acquire()
        self.order.append(name)

    @rule(seconds=st.sampled_from([None, 0.0, 3.0, 20.0]))
    def come(self, seconds: float | None) -> None:
        self.settle()
        name = self.names = self.names + 1
        with deadline.within(seconds, self.clock):
            self.tasks[name] = self.loop.create_task(self.visit(name))
        patience = MAX_WAIT if seconds is None else min(MAX_WAIT, seconds)
        if len(self.inside) < self.places:
            self.inside.append(name)
            self.admitted.append(name)
        else:
            if not self.is_full() and patience > 0:
                self.since[name] = self.clock.now
                longest = STANDING * MAX_WAIT if self.stands else MAX_WAIT
                self.queue.append((name, self.clock.now + min(patience, longest)))
            else:
                self.refused.add(name)
        self.run_loop()

    def is_full(self) -> bool:
        if not self.queue:
            self.queued_since, self.stands = self.clock.now, False
        elif self.clock.now - self.queued_since >= MAX_WAIT:
            self.stands = self.stands or self.clock.now - self.since[self.queue[0][0]] >= 2 * STANDING * MAX_WAIT
        most = min(self.waiting, max(1, self.waiting * STANDING)) if self.stands else self.waiting
        return len(self.queue) >= most

    @rule()
    def come_near(self) -> None:
        self.settle()
        rejected = self.bulkhead.snapshot().rejected
        refusal = self.bulkhead.turn_away()
        assert (refusal is not None) == (len(self.inside) >= self.places and self.is_full())
        assert self.bulkhead.snapshot().rejected == rejected + (refusal is not None)

    @rule()
    def come_from_a_thread_that_cannot_wait(self) -> None:
        self.settle()
        with deadline.within(0.0, self.clock):
            if len(self.inside) < self.places:
                self.bulkhead.acquire_sync()
                self.inside.append(0)
                return
            with pytest.raises(BulkheadFullError):
                self.bulkhead.acquire_sync()

    @precondition(lambda self: any(name == 0 or self.tasks[name].done() for name in self.inside))
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        here = [place for place, name in enumerate(self.inside) if name == 0 or self.tasks[name].done()]
        self.inside.pop(data.draw(st.sampled_from(here)))
        self.bulkhead.release()
        self.admit()

    @precondition(lambda self: any(not task.done() for task in self.tasks.values()))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, task in self.tasks.items() if not task.done()]))
        self.tasks[name].cancel()
        self.cancelled.add(name)

    @rule(places=st.integers(1, 4))
    def resize(self, places: int) -> None:
        self.bulkhead.resize(places)
        self.places = places
        self.admit()

    @rule(seconds=st.sampled_from([1.0, 3.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.settle()
        self.clock.advance(seconds)
        # Timers go off all at once, and those who are then refused take nothing from the others.
        self.refused |= {name for name, until in self.queue if until <= self.clock.now}
        self.queue = [waiter for waiter in self.queue if waiter[0] not in self.refused]
        self.run_loop()

    @rule()
    def settle(self) -> None:
        """Lets all tasks run. Who was cancelled is out, and passes on a place that came too late."""
        while gone := [name for name in self.cancelled if name in self.inside and not self.tasks[name].done()]:
            self.inside.remove(gone[0])
            self.admitted.remove(gone[0])
            self.cancelled.remove(gone[0])
            self.queue = [waiter for waiter in self.queue if waiter[0] not in self.cancelled]
            self.admit()
        self.queue = [waiter for waiter in self.queue if waiter[0] not in self.cancelled]
        self.run_loop()
        self.cancelled.clear()
        self.agrees_in_full()

    def agrees_in_full(self) -> None:
        assert self.order == self.admitted
        for name, task in self.tasks.items():
            if name in self.refused:
                assert isinstance(task.exception(), BulkheadFullError)
        assert [name for name, task in self.tasks.items() if not task.done()] == sorted(name for name, _ in self.queue)
        snapshot = self.bulkhead.snapshot()
        assert snapshot.in_flight == len(self.inside)
        assert snapshot.waiting == len(self.queue)

    @invariant()
    def nobody_waits_beside_a_free_place(self) -> None:
        if hasattr(self, "bulkhead"):
            snapshot = self.bulkhead.snapshot()
            assert snapshot.max_concurrent == self.places
            assert snapshot.in_flight == len(self.inside)
            assert snapshot.waiting <= snapshot.max_waiting
            assert snapshot.waiting == 0 or snapshot.in_flight >= snapshot.max_concurrent


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
