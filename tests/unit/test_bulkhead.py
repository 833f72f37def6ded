"""The bulkhead: who gets a place, who waits, who is refused, and that no place is ever lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.clock import FakeClock

from resilience import deadline
from resilience.bulkhead import Bulkhead
from resilience.errors import BulkheadFullError
from resilience.events import Event


async def settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


class Pool:
    """A bulkhead with a clock of its own, and what it told."""

    def __init__(self, places: int = 1, waiting: int = 5, wait: float = 10.0, standing: float = 1.0) -> None:
        self.clock = FakeClock()
        self.bulkhead = Bulkhead(
            "pool",
            places,
            waiting,
            wait,
            standing=standing,
            clock=self.clock,
            call_later=self.clock.call_later,
            pause=self.pause,
        )
        self.events: list[Event] = []
        self.bulkhead.events.subscribe(self.events.append)
        self.order: list[str] = []
        self.pauses: list[float] = []

    def pause(self, event: threading.Event, seconds: float) -> bool:
        """A thread that waits: time passes at once."""
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        return event.is_set()

    async def visitor(self, name: str) -> None:
        await self.bulkhead.acquire()
        self.order.append(name)

    async def queue(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(self.visitor(name)))
            await settle()
        return tasks

    @property
    def counts(self) -> tuple[int, int]:
        snapshot = self.bulkhead.snapshot()
        return snapshot.in_flight, snapshot.waiting


async def test_so_many_calls_run_at_once_and_no_more() -> None:
    pool = Pool(places=2, waiting=10)
    running = most = 0

    async def operation() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return running

    await asyncio.gather(*(pool.bulkhead.run(operation) for _ in range(10)))
    assert most == 2
    assert pool.counts == (0, 0)


async def test_a_full_pool_without_a_queue_refuses_at_once() -> None:
    pool = Pool(waiting=0)
    await pool.bulkhead.acquire()
    with pytest.raises(BulkheadFullError, match="The bulkhead pool is full: all places are taken"):
        await pool.bulkhead.acquire()
    assert [event.kind for event in pool.events] == ["rejected"]
    assert pool.bulkhead.snapshot().rejected == 1


async def test_a_full_queue_refuses_at_once() -> None:
    pool = Pool(waiting=1)
    await pool.queue("a", "b")
    with pytest.raises(BulkheadFullError, match="and so is the queue"):
        await pool.bulkhead.acquire()
    assert pool.counts == (1, 1)


async def test_places_go_to_those_who_waited_longest() -> None:
    pool = Pool()
    await pool.queue("a", "b", "c", "d")
    for _ in range(3):
        pool.bulkhead.release()
    assert pool.counts == (1, 0), "each place is handed over with the release, so nobody can push in"
    await settle()
    assert pool.order == ["a", "b", "c", "d"]


async def test_who_joins_a_queue_that_stands_is_refused_soon() -> None:
    pool = Pool(wait=10.0, waiting=40, standing=0.05)
    await pool.queue("a", "b")
    pool.clock.advance(9.0)
    third = (await pool.queue("c"))[0]
    pool.bulkhead.release()
    pool.clock.advance(1.0)
    # Somebody has waited all the time for ten seconds now.
    fourth = (await pool.queue("d"))[0]
    with pytest.raises(BulkheadFullError, match="and so is the queue"):
        await pool.bulkhead.acquire()
    pool.clock.advance(0.5)
    await settle()
    with pytest.raises(BulkheadFullError, match=r"no place became free in 0\.5 s"):
        await fourth
    assert not third.done(), "who came before may wait as long as was said"
    pool.bulkhead.release()
    await third
    # The queue was empty: another burst may wait again.
    fifth = (await pool.queue("e"))[0]
    pool.clock.advance(9.9)
    await settle()
    assert not fifth.done()
    pool.bulkhead.release()
    await fifth


async def test_nobody_pushes_in_between_a_release_and_the_wake_of_who_waits() -> None:
    pool = Pool(waiting=1)
    _, second = await pool.queue("a", "b")
    pool.bulkhead.release()
    third = asyncio.create_task(pool.visitor("c"))
    await settle()
    await second
    assert pool.order == ["a", "b"]
    third.cancel()


async def test_a_wait_ends_after_max_wait() -> None:
    pool = Pool()
    _, waiting = await pool.queue("a", "b")
    pool.clock.advance(9.9)
    await settle()
    assert not waiting.done()
    pool.clock.advance(0.1)
    with pytest.raises(BulkheadFullError, match="no place became free in 10 s"):
        await waiting
    assert pool.counts == (1, 0)
    pool.bulkhead.release()
    assert pool.counts == (0, 0)


async def test_a_wait_ends_at_the_deadline_of_the_call() -> None:
    pool = Pool()
    await pool.bulkhead.acquire()
    with deadline.within(3, pool.clock):
        waiting = asyncio.create_task(pool.visitor("b"))
    await settle()
    pool.clock.advance(3)
    with pytest.raises(BulkheadFullError, match="in 3 s"):
        await waiting


async def test_nobody_queues_whose_deadline_has_passed() -> None:
    pool = Pool()
    await pool.bulkhead.acquire()
    with deadline.within(0, pool.clock), pytest.raises(BulkheadFullError, match="deadline has passed"):
        await pool.bulkhead.acquire()
    assert pool.counts == (1, 0)


async def test_who_waited_is_told() -> None:
    pool = Pool()
    _, waiting = await pool.queue("a", "b")
    pool.clock.advance(4)
    pool.bulkhead.release()
    await waiting
    assert [(event.kind, event.attributes) for event in pool.events] == [("waited", {"seconds": 4.0})]
    assert pool.bulkhead.snapshot().waited == 1


async def test_a_cancelled_wait_takes_no_place_and_keeps_none() -> None:
    pool = Pool()
    _, cancelled, third = await pool.queue("a", "b", "c")
    cancelled.cancel()
    await settle()
    assert pool.counts == (1, 1)
    pool.bulkhead.release()
    await third
    assert pool.order == ["a", "c"]


async def test_a_place_given_to_a_waiter_that_is_cancelled_at_the_same_time_goes_to_the_next() -> None:
    pool = Pool()
    _, cancelled, third = await pool.queue("a", "b", "c")
    pool.bulkhead.release()
    cancelled.cancel()
    await settle()
    assert cancelled.cancelled()
    assert third.done()
    assert pool.order == ["a", "c"]
    pool.bulkhead.release()
    assert pool.counts == (0, 0)


async def test_a_waiter_that_is_cancelled_first_and_given_a_place_then_passes_it_on() -> None:
    pool = Pool()
    _, cancelled, third = await pool.queue("a", "b", "c")
    cancelled.cancel()
    pool.bulkhead.release()
    await settle()
    assert cancelled.cancelled()
    assert third.done()
    assert pool.counts == (1, 0)


async def test_a_place_given_as_the_wait_runs_out_is_taken() -> None:
    pool = Pool()
    _, waiting = await pool.queue("a", "b")
    pool.clock.advance(10)
    pool.bulkhead.release()
    await waiting
    assert pool.counts == (1, 0)


async def test_the_place_comes_back_however_the_operation_ends() -> None:
    pool = Pool()

    async def fails() -> None:
        raise KeyError

    async def hangs() -> None:
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await pool.bulkhead.run(fails)
    task = asyncio.create_task(pool.bulkhead.run(hangs))
    await settle()
    assert pool.counts == (1, 0)
    task.cancel()
    await settle()
    assert pool.counts == (0, 0)

    def fails_too() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        pool.bulkhead.run_sync(fails_too)
    assert pool.counts == (0, 0)


def test_a_thread_waits_no_longer_than_max_wait_or_its_deadline() -> None:
    pool = Pool()
    pool.bulkhead.acquire_sync()
    with pytest.raises(BulkheadFullError, match="in 10 s"):
        pool.bulkhead.acquire_sync()
    with deadline.within(2, pool.clock), pytest.raises(BulkheadFullError, match="in 2 s"):
        pool.bulkhead.acquire_sync()
    assert pool.pauses == [10, 2]
    assert pool.counts == (1, 0)


def test_an_interrupted_thread_leaves_the_queue_or_passes_its_place_on() -> None:
    granted = False

    def interrupted(event: threading.Event, seconds: float) -> bool:
        if granted:
            bulkhead.release()
        raise KeyboardInterrupt

    bulkhead = Bulkhead("pool", 1, 5, 10, pause=interrupted)
    bulkhead.acquire_sync()
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire_sync()
    assert (bulkhead.snapshot().in_flight, bulkhead.snapshot().waiting) == (1, 0)
    granted = True
    with pytest.raises(KeyboardInterrupt):
        bulkhead.acquire_sync()
    assert (bulkhead.snapshot().in_flight, bulkhead.snapshot().waiting) == (0, 0)


async def test_a_larger_pool_lets_those_in_who_wait_and_a_smaller_one_fills_up_no_more() -> None:
    pool = Pool()
    await pool.queue("a", "b", "c", "d")
    pool.bulkhead.resize(3)
    await settle()
    assert pool.order == ["a", "b", "c"]
    pool.bulkhead.resize(1)
    assert pool.counts == (3, 1)
    pool.bulkhead.release()
    pool.bulkhead.release()
    assert pool.counts == (1, 1)
    pool.bulkhead.release()
    await settle()
    assert pool.order == ["a", "b", "c", "d"]
    assert pool.bulkhead.snapshot().max_concurrent == 1


async def test_tasks_and_threads_share_one_queue_in_its_order() -> None:
    order: list[str] = []
    blocked = threading.Event()

    def pause(event: threading.Event, seconds: float) -> bool:
        blocked.set()
        return event.wait(seconds)

    bulkhead = Bulkhead("pool", 1, 10, 60, pause=pause)

    def thread() -> None:
        bulkhead.acquire_sync()
        order.append("thread")
        bulkhead.release()

    async def task(name: str) -> None:
        await bulkhead.acquire()
        order.append(name)
        bulkhead.release()

    await bulkhead.acquire()
    first = asyncio.create_task(task("first"))
    await settle()
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(thread)
        await asyncio.to_thread(blocked.wait)
        last = asyncio.create_task(task("last"))
        await settle()
        bulkhead.release()
        await asyncio.gather(first, last)
        waiting.result()
    assert order == ["first", "thread", "last"]
    assert bulkhead.snapshot().in_flight == 0


async def test_many_threads_and_tasks_at_once_lose_no_place() -> None:
    bulkhead = Bulkhead("pool", 3, 1000, 60)
    running = most = done = 0
    lock = threading.Lock()

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def leave() -> None:
        nonlocal running, done
        with lock:
            running -= 1
            done += 1

    def blocking() -> None:
        for _ in range(100):
            bulkhead.run_sync(lambda: (enter(), leave()))

    async def operation() -> None:
        enter()
        await asyncio.sleep(0)
        leave()

    async def asynchronous() -> None:
        for _ in range(50):
            await bulkhead.run(operation)

    with ThreadPoolExecutor(4) as executor:
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(executor, blocking) for _ in range(4)), *(asynchronous() for _ in range(8))
        )
    assert done == 800
    assert most <= 3
    snapshot = bulkhead.snapshot()
    assert (snapshot.in_flight, snapshot.waiting, snapshot.rejected) == (0, 0, 0)


def test_a_place_for_a_task_whose_loop_is_gone_goes_to_the_next() -> None:
    bulkhead = Bulkhead("pool", 1, 5, 60)
    bulkhead.acquire_sync()
    gone = asyncio.new_event_loop()
    orphan = gone.create_task(bulkhead.acquire())
    gone.run_until_complete(settle())
    gone.close()

    async def waits() -> None:
        waiting = asyncio.create_task(bulkhead.acquire())
        await settle()
        assert bulkhead.snapshot().waiting == 2
        bulkhead.release()
        await waiting

    asyncio.run(waits())
    assert bulkhead.snapshot().in_flight == 1
    # Python would complain that it never ended.
    orphan._log_destroy_pending = False  # type: ignore[attr-defined]
    orphan.get_coro().close()  # type: ignore[union-attr]
    assert bulkhead.snapshot().in_flight == 1


def test_a_place_that_nobody_had_cannot_come_back() -> None:
    with pytest.raises(RuntimeError, match="that nobody had"):
        Bulkhead("pool", 1).release()


@pytest.mark.parametrize(("places", "waiting", "wait"), [(0, 0, 0.0), (1, -1, 0.0), (1, 0, -1.0)])
def test_sizes_that_make_no_sense_are_refused(places: int, waiting: int, wait: float) -> None:
    with pytest.raises(ValueError, match="or more"):
        Bulkhead("pool", places, waiting, wait)
    with pytest.raises(ValueError, match="1 or more"):
        Bulkhead("pool", 1).resize(0)
