"""A run of the canary: all signals at once, from the first round to the last look."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airis.client.canary.alert_probe import AlertProbe
from airis.client.canary.probes import LogProbe, MetricProbe, Probe, TraceProbe
from airis.client.canary.record import Counts, Record
from airis.client.canary.rounds import Rhythm, Rounds
from airis.client.errors import AirisError, DeadlineExceededError, ResourceExhaustedError, UnavailableError

if TYPE_CHECKING:
    from airis.client.client import AirisClient

SIGNALS = ("metrics", "logs", "traces", "alerts")
_PASSING = (UnavailableError, DeadlineExceededError, ResourceExhaustedError)
_PREPARE_SECONDS = 2.0


def probe_of(signal: str, client: AirisClient, name: str) -> Probe:
    """The probe of a signal.

    Args:
        signal: One of `SIGNALS`.
        client: The platform.
        name: Of the canary: lower-case letters, digits and hyphens.
    """
    # A run looks for what it wrote itself, and not for what another wrote that was killed.
    run = f"{name}-{secrets.token_hex(4)}"
    if signal == "alerts":
        return AlertProbe(client, run, name)
    if signal == "metrics":
        return MetricProbe(client, run)
    return LogProbe(client, run) if signal == "logs" else TraceProbe(client, run)


async def prepare(probes: Sequence[Probe], stopped: asyncio.Event, waits: Callable[[str, AirisError], None]) -> None:
    """Prepares the probes; a canary that starts before its platform waits for it.

    Args:
        probes: Which.
        stopped: Ends the waiting.
        waits: Is told whom it waits for, and why.

    Raises:
        AirisError: A probe cannot be prepared, and waiting would not help.
    """
    for probe in probes:
        while not stopped.is_set():
            try:
                await probe.prepare()
                break
            except _PASSING as error:
                waits(probe.signal, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), _PREPARE_SECONDS)


async def sing(
    probes: Sequence[Probe],
    records: Sequence[Record],
    rhythm: Rhythm,
    stopped: asyncio.Event,
    *,
    seconds: float,
    every: float,
    report: Callable[[str, Counts], None],
) -> None:
    """Makes rounds until told to stop.

    Args:
        probes: One for each signal.
        records: Theirs.
        rhythm: When what is done.
        stopped: Ends it in order.
        seconds: When it ends by itself; 0: not.
        every: Seconds from a report to the next.
        report: Is told what happened to a signal since the last report.
    """

    async def tell() -> None:
        before = [record.total.copy() for record in records]
        while True:
            await asyncio.sleep(every)
            now = [record.total.copy() for record in records]
            for record, new, old in zip(records, now, before, strict=True):
                report(record.signal, new.since(old))
            before = now

    async def end() -> None:
        await asyncio.sleep(seconds)
        stopped.set()

    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(tell()), *([group.create_task(end())] if seconds else [])]
        singing = [
            group.create_task(Rounds(probe, record, rhythm).run(stopped))
            for probe, record in zip(probes, records, strict=True)
        ]
        await asyncio.wait(singing)
        for task in beside:
            task.cancel()
