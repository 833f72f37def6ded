"""Sends many inputs at once, and asks again alone where an answer did not come in time."""

from __future__ import annotations

import asyncio
import sys
import time

from tests.fuzz.addresses import Addresses
from tests.fuzz.report import Report
from tests.fuzz.wire import LateError, Wire

_AT_ONCE = 40
_ATTEMPTS = 3
_HANG_SECONDS = 90.0


async def run(
    seed: int, addresses: Addresses, first: int, inputs: int, seconds: float | None = None, at_once: int = _AT_ONCE
) -> Report:
    """Sends the inputs `first` to `first + inputs`, or as many as there is time for."""
    report = Report()
    ends = None if seconds is None else time.monotonic() + seconds
    indices = iter(range(first, first + inputs))
    late: list[int] = []

    async def sender(wire: Wire) -> None:
        for index in indices:
            if ends is not None and time.monotonic() > ends:
                return
            await one(wire, index, report, late, _replay(seed, index, addresses))

    async with Wire(seed, addresses) as wire:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(sender(wire))
        print(f"{report.inputs} sent, {len(late)} to be sent again", file=sys.stderr, flush=True)
        # On a busy machine an answer may be late once; what hangs hangs again.
        for index in late:
            for _ in range(_ATTEMPTS):
                again: list[int] = []
                await one(wire, index, report, again, _replay(seed, index, addresses))
                if not again:
                    break
            else:
                report.found(f"hang: {wire.name(index)}", _replay(seed, index, addresses), "no answer in time, thrice")
    return report


async def one(wire: Wire, index: int, report: Report, late: list[int], replay: str) -> None:
    """Sends one input, and notes what it became."""
    try:
        async with asyncio.timeout(_HANG_SECONDS):
            target, status = await wire.run(index)
    except (LateError, TimeoutError):
        late.append(index)
        return
    except Exception as error:
        report.raised(error, wire.name(index), replay)
        return
    report.seen(target, status)


def _replay(seed: int, index: int, addresses: Addresses) -> str:
    return f"{seed}:{'a' if addresses.token else 'w'}{index}"
