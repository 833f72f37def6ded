"""`airis canary`."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal as system_signals
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from airis.client.cli.invocation import PortOffset, fail, offset_target
from airis.client.cli.output import Format, Output, explain

if TYPE_CHECKING:
    from airis.client.canary.measures import MeterMeasures
    from airis.client.canary.rounds import Rhythm
    from airis.client.cli.canary_report import CanaryReport

_EDGE_PORT, _OTLP_PORT, _METRICS_PORT = 8080, 4317, 9107
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def canary(
    interval: Annotated[float, typer.Option(help="Seconds from a round to the next.", min=0.01)] = 1.0,
    duration: Annotated[float, typer.Option(help="Seconds to go on; 0: until Ctrl-C.", min=0.0)] = 0.0,
    endpoint: Annotated[
        str, typer.Option("--endpoint", "--target", envvar="AIRIS_TARGET", help="Host and port of AIRIS.")
    ] = f"127.0.0.1:{_EDGE_PORT}",
    port_offset: PortOffset = 0,
    token_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A file with the token; read again when it changes.", exists=True, dir_okay=False),
    ] = None,
    signals: Annotated[str, typer.Option(help="Which, with commas between them.")] = "metrics,logs,traces,alerts",
    within: Annotated[float, typer.Option(help="Seconds in which an item must be seen.", min=0.1)] = 10.0,
    report: Annotated[float, typer.Option(help="Seconds from a report to the next.", min=0.1)] = 10.0,
    name: Annotated[str, typer.Option(help="Tells canaries of one platform apart: a-z, 0-9 and -.")] = "default",
    otlp: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Where its metrics are sent (OTLP/gRPC); empty: nowhere. Without it: the platform's."),
    ] = None,
    metrics_port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Port of its own /metrics on loopback; 0: none. Without it: 9107 and the offset.", min=0),
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="Lines for people, JSON for programs.")
    ] = Format.TABLE,
) -> None:
    """Write and read back all signals all the time; tell how long that takes, and what fails.

    Ends with 0 when everything was as the contract promises, with 1 when not.
    """
    target = offset_target(endpoint, port_offset)
    host, _, port = target.rpartition(":")
    if not _NAME.fullmatch(name):
        raise typer.BadParameter("--name must be 1 to 40 of a-z, 0-9 and -, and neither begin nor end with -.")
    if otlp is None:
        shifted = int(port) - _EDGE_PORT + _OTLP_PORT
        otlp = f"{host}:{shifted}" if 0 < shifted < 65_536 else ""
    if metrics_port is None:
        metrics_port = _METRICS_PORT + port_offset
    from airis.client.canary.rounds import Rhythm
    from airis.client.canary.telemetry import telemetry
    from airis.client.cli.canary_report import CanaryReport
    from airis.client.errors import AirisError

    chosen = _signals(signals)
    told = CanaryReport(Output(output))
    rhythm = Rhythm(interval=interval, within=within)
    try:
        with telemetry(otlp, metrics_port, token_file) as measures:
            told.begin(target, chosen, interval, otlp, metrics_port)
            well = asyncio.run(_sing(target, token_file, chosen, name, rhythm, duration, report, measures, told))
    except AirisError as error:
        fail(explain(error))
    except OSError as error:
        fail(f"/metrics cannot be served on port {metrics_port} ({error.strerror}); --metrics-port names another.")
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise typer.Exit(130) from None
    raise typer.Exit(0 if well else 1)


def _signals(text: str) -> list[str]:
    from airis.client.canary.flock import SIGNALS

    chosen = [part.strip() for part in text.split(",") if part.strip()]
    if not chosen or set(chosen) - set(SIGNALS) or len(set(chosen)) < len(chosen):
        raise typer.BadParameter(f"--signals takes {', '.join(SIGNALS)}: one at least, each at most once.")
    return chosen


async def _sing(
    target: str,
    token_file: Path | None,
    chosen: list[str],
    name: str,
    rhythm: Rhythm,
    duration: float,
    every: float,
    measures: MeterMeasures,
    told: CanaryReport,
) -> bool:
    from airis.client.canary import flock
    from airis.client.canary.record import Record
    from airis.client.client import AirisClient
    from airis.client.errors import AirisError

    stopped = asyncio.Event()
    records = [Record(signal, measures, time.monotonic) for signal in chosen]
    measures.start(chosen)
    measures.observe(records)
    async with AirisClient(target, token_file=token_file) as client:
        probes = [flock.probe_of(signal, client, name) for signal in chosen]
        with _stopping(stopped):
            await flock.prepare(probes, stopped, lambda signal, error: told.note(signal, explain(error)))
            begun = time.monotonic()
            await flock.sing(probes, records, rhythm, stopped, seconds=duration, every=every, report=told.interval)
            seconds = time.monotonic() - begun
            for probe in probes:
                try:
                    await probe.end()
                except AirisError as error:
                    told.note(probe.signal, f"something is left behind: {explain(error)}")
    return told.end(records, seconds)


@contextlib.contextmanager
def _stopping(stopped: asyncio.Event) -> Iterator[None]:
    """The first Ctrl-C ends it in order, the second at once."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        if stopped.is_set() and this is not None:
            this.cancel()
        stopped.set()

    numbers = (system_signals.SIGINT, system_signals.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
