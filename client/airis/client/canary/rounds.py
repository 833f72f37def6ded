"""Rounds: at each interval an item is written and looked for until it is seen, and once more later."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from airis.client.canary.probes import Mark, Probe
from airis.client.canary.record import Record
from airis.client.errors import AirisError

_MILLISECOND = 1_000_000
_LOOK_SECONDS = 0.25
_POLL_SHARE = 0.1
_CHECKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When what is done. Seconds.

    Attributes:
        interval: From the begin of a round to that of the next.
        within: So soon an item must be seen.
        within_alerts: So soon an alert must fire or resolve, whose rule is evaluated each second.
        poll: Between two looks for an item, at first; later a tenth of what it has taken so far, so that who is slow is
            not asked all the more often.
        check_after: So long after its write it is looked for once more, to find those that were lost or doubled; and
            again after that, as long as it is not there.
        lost_after: So long after its write an item that is not there is missing. Before, it may still be on its way:
            what is acknowledged is durable, and a platform that has much to do shows it later.
        most_under_way: Rounds of a signal at once; further ones are skipped, and count as failed.
        most_unchecked: Items that may wait for that look; older ones count as unverified.
    """

    interval: float = 1.0
    within: float = 10.0
    within_alerts: float = 30.0
    poll: float = 0.05
    check_after: float = 30.0
    lost_after: float = 120.0
    most_under_way: int = 64
    most_unchecked: int = 10_000


@dataclass(frozen=True, slots=True)
class _Written:
    """An item to look for once more, not before `due`; `absent`: it was looked for in vain."""

    mark: Mark
    since: float
    acknowledged: bool
    seen: bool
    due: float
    absent: bool = False


class Rounds:
    """The rounds of one signal.

    Args:
        probe: Writes and reads.
        record: Is told what happens.
        rhythm: When.
        clock: Monotonic seconds.
        wall: Nanoseconds since 1970.
        dice: Makes keys.
    """

    def __init__(
        self,
        probe: Probe,
        record: Record,
        rhythm: Rhythm,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
        dice: random.Random | None = None,
    ) -> None:
        self._probe = probe
        self._record = record
        self._rhythm = rhythm
        self._clock = clock
        self._wall = wall
        self._dice = dice or random.SystemRandom()
        self._within = rhythm.within_alerts if probe.one_by_one else rhythm.within
        self._unchecked: deque[_Written] = deque()
        self._last_at = self._last_seen = 0

    async def run(self, stopped: asyncio.Event) -> None:
        """Sings until told to stop, then ends what is under way and looks for all that was not looked for again."""
        number, due = 0, self._clock()
        under_way: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            checking = group.create_task(self._check_often())
            while not stopped.is_set():
                number += 1
                if len(under_way) >= self._rhythm.most_under_way:
                    self._record.ended(well=False, skipped=True)
                else:
                    task = group.create_task(self._round(self._mark(number)))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    if self._probe.one_by_one:
                        await task
                # Rounds begin when they are due, however long others take; one by one they cannot.
                due = max(due + self._rhythm.interval, self._clock() if self._probe.one_by_one else 0.0)
                await self._pause(due, stopped)
            if under_way:
                await asyncio.wait(under_way)
            checking.cancel()
        await self._check_rest()

    def _mark(self, number: int) -> Mark:
        self._last_at = max(self._wall() // _MILLISECOND * _MILLISECOND, self._last_at + _MILLISECOND)
        return Mark(number, self._last_at, f"{self._dice.getrandbits(128) or 1:032x}")

    async def _pause(self, until: float, stopped: asyncio.Event) -> None:
        left = until - self._clock()
        if left > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), left)
        else:
            await asyncio.sleep(0)

    async def _round(self, mark: Mark) -> None:
        begun = self._clock()
        acknowledged = await self._write(mark)
        copies, well = 0, acknowledged
        while acknowledged:
            count = await self._read(mark)
            well = well and count is not None
            copies = count or 0
            if copies or self._clock() - begun >= self._within:
                break
            await asyncio.sleep(max(self._rhythm.poll, _POLL_SHARE * (self._clock() - begun)))
        if copies:
            self._record.seen(self._clock() - begun)
            self._last_seen = max(self._last_seen, mark.number)
        if copies > 1:
            self._record.found("doubled")
        else:
            self._later(_Written(mark, begun, acknowledged, bool(copies), begun + self._rhythm.check_after))
        self._record.ended(well=well and copies == 1)

    async def _write(self, mark: Mark) -> bool:
        begun = self._clock()
        try:
            await self._probe.write(mark)
        except AirisError as error:
            # It may have been stored all the same: then once, and nobody was promised that it is.
            self._record.refused("write", error.code.name, error.message, self._clock() - begun)
            return False
        self._record.answered("write", self._clock() - begun)
        return True

    async def _read(self, mark: Mark) -> int | None:
        """How many there are; None: that could not be found out."""
        begun = self._clock()
        try:
            copies = await self._probe.read(mark)
        except AirisError as error:
            self._record.refused("read", error.code.name, error.message, self._clock() - begun)
            return None
        self._record.answered("read", self._clock() - begun)
        return copies

    def _later(self, written: _Written) -> None:
        self._unchecked.append(written)
        if len(self._unchecked) > self._rhythm.most_unchecked:
            self._unchecked.popleft()
            self._record.found("unverified")

    async def _check_often(self) -> None:
        while True:
            now = self._clock()
            some = [written for written in islice(self._unchecked, _CHECKS_AT_ONCE) if written.due <= now]
            if not some or not await self._check(some):
                await asyncio.sleep(min(self._rhythm.interval, _LOOK_SECONDS))

    async def _check_rest(self) -> None:
        ends = self._clock() + 3 * self._within
        while self._unchecked and self._clock() < ends:
            if not await self._check(list(islice(self._unchecked, _CHECKS_AT_ONCE))):
                await asyncio.sleep(self._rhythm.poll)
        for written in self._unchecked:
            # Items are shown in the order in which they were written: one that is not, though a later one is, is lost.
            is_lost = written.absent and self._last_seen > written.mark.number
            self._record.found("missing" if is_lost else "unverified")
        self._unchecked.clear()

    async def _check(self, some: list[_Written]) -> bool:
        """Looks for items once more. Whether that is done with all of them; the others are looked for again."""
        counts = await asyncio.gather(*(self._read(written.mark) for written in some))
        done = True
        for written, copies in zip(some, counts, strict=True):
            # Others may have come meanwhile, so many that this one was given up.
            if written not in self._unchecked:
                continue
            if copies is None:
                done = False
                continue
            self._unchecked.remove(written)
            if copies == 0 and written.acknowledged and self._clock() - written.since < self._rhythm.lost_after:
                done = False
                self._later(replace(written, due=self._clock() + self._rhythm.check_after, absent=True))
            else:
                self._judge(written, copies)
        return done

    def _judge(self, written: _Written, copies: int) -> None:
        if copies > 1:
            self._record.found("doubled")
        elif copies == 0 and written.acknowledged:
            self._record.found("missing")
        elif copies == 1 and written.acknowledged and not written.seen:
            self._record.found("late")
