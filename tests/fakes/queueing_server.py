"""A server with a few workers and an endless queue, on virtual time: what overload does, without waiting for it."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fakes.clock import FakeClock


@dataclass(frozen=True)
class Arrival:
    """A call that wants in.

    Attributes:
        at: When, in virtual seconds.
        service: Seconds that a worker needs for it.
        priority: As in the contract: 1 CRITICAL, 2 INTERACTIVE, 3 BULK.
    """

    at: float
    service: float
    priority: int = 2


@dataclass(frozen=True)
class Ended:
    """What became of a call. `latency` None: refused. `late`: it took longer than its caller waited."""

    arrival: Arrival
    latency: float | None
    late: bool = False


def poisson(
    rate: float, begin: float, end: float, service: Callable[[], float], dice: random.Random, priority: int = 2
) -> Iterator[Arrival]:
    """Calls that come independently of each other, `rate` a second."""
    at = begin + dice.expovariate(rate)
    while at < end:
        yield Arrival(at, service(), priority)
        at += dice.expovariate(rate)


def simulate(
    arrivals: Iterator[Arrival],
    clock: FakeClock,
    enter: Callable[[Arrival], float | None],
    leave: Callable[[float, bool], None],
    workers: Callable[[float], int] = lambda now: 8,
    patience: float = float("inf"),
) -> list[Ended]:
    """Plays the calls against the server, first come, first served.

    Args:
        arrivals: The calls, by time.
        clock: Is set to each event's time.
        enter: Lets a call in, or returns None.
        leave: Is told when a call that was let in ends, and whether it was late.
        workers: How many calls the server works on at once, by time.
        patience: Seconds after which a call's end is late. The server works on it all the same.
    """
    ended: list[Ended] = []
    under_way: list[tuple[float, int, float, Arrival]] = []
    queue: deque[tuple[float, Arrival]] = deque()
    number = 0

    def work(now: float) -> None:
        nonlocal number
        while queue and len(under_way) < workers(now):
            started, arrival = queue.popleft()
            number += 1
            heapq.heappush(under_way, (now + arrival.service, number, started, arrival))

    def finish_until(time: float) -> None:
        while under_way and under_way[0][0] <= time:
            at, _, started, arrival = heapq.heappop(under_way)
            clock.now = at
            late = at - arrival.at > patience
            leave(started, late)
            ended.append(Ended(arrival, at - arrival.at, late))
            work(at)

    for arrival in arrivals:
        finish_until(arrival.at)
        clock.now = arrival.at
        started = enter(arrival)
        if started is None:
            ended.append(Ended(arrival, None))
        else:
            queue.append((started, arrival))
            work(arrival.at)
    finish_until(float("inf"))
    return ended
