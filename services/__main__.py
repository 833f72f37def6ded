"""Starts one service: `python -m services metrics|logs|traces|alerts|mesh|frontend`."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Protocol

import structlog
import uvloop

from services.config import Configuration, load, read
from services.shared.errors import AirisError
from services.shared.open_files import allow_many_open_files
from services.shared.telemetry import setup
from services.shared.without_pandas import leave_out_pandas

if TYPE_CHECKING:
    from services.shared.discovery.registration import Registration

SIGNALS = {
    "metrics": "airis.metrics.v1.MetricsService",
    "logs": "airis.logs.v1.LogService",
    "traces": "airis.traces.v1.TraceService",
    "alerts": "airis.alerts.v1.AlertService",
}
"""What of the contract each of them serves."""
SERVICES = (*SIGNALS, "mesh", "frontend")

# 700 unless told otherwise, which under load is a few calls.
_COLLECTED_AT_ONCE = 20_000


class Application(Protocol):
    """What each service's `app.py` makes."""

    async def start(self) -> None:
        """Serves when this returns."""

    async def stop(self) -> None:
        """Stops reading, finishes acknowledgements, then closes."""

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as the service does."""


def main(arguments: Sequence[str]) -> int:
    """Runs a service until SIGTERM or SIGINT.

    Args:
        arguments: The service's name.

    Returns:
        0 after an orderly stop, 1 after a fault, 2 when called wrongly.
    """
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"usage: python -m services {'|'.join(SERVICES)}", file=sys.stderr)
        return 2
    name = arguments[0]
    leave_out_pandas()
    allow_many_open_files()
    try:
        # The mesh takes no calls of the contract, and who may ask it is its own affair.
        config = read() if name == "mesh" else load()
        end_telemetry = setup.start(f"airis-{name}", config.telemetry)
        try:
            return uvloop.run(_run(name, config))
        finally:
            end_telemetry()
    except AirisError as error:
        print(error.message, file=sys.stderr)
        return 1


async def _run(name: str, config: Configuration) -> int:
    logger = structlog.get_logger(__name__)
    if not config.auth.enabled and name in SIGNALS:
        logger.warning("authentication_is_off", host=config.host, remedy="airis auth init, then airis up --auth")
    # Nothing of what a program is made of goes while it is put together: looking for it takes an eighth of that time.
    gc.disable()
    # Imported by name, so that a service does not load what the others need.
    application: Application = import_module(f"services.{name}.app").build(config)
    gc.enable()
    registration = _registration(name, config)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # A start may wait for servers that are away: it must be possible to end that, too.
    starting, asked = asyncio.create_task(application.start()), asyncio.create_task(ended.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        logger.info("service_not_started", name=name)
        return 0
    await starting
    # And it stays: looking through it again and again stops all calls for a fifth of a second each time.
    gc.freeze()
    gc.set_threshold(_COLLECTED_AT_ONCE)
    logger.info("service_started", name=name)
    if registration is not None:
        registration.start()
    if application.background is not None:
        application.background.add_done_callback(lambda _: ended.set())
    await ended.wait()
    background = application.background
    failed = background is not None and background.done()
    if background is not None and background.done():
        logger.error("background_task_ended", name=name, exc_info=background.exception())
    if registration is not None:
        # Callers leave first, and miss nothing.
        await registration.leave()
    await application.stop()
    logger.info("service_stopped", name=name)
    return 1 if failed else 0


def _registration(name: str, config: Configuration) -> Registration | None:
    if config.discovery.kind == "static" or name not in SIGNALS:
        return None
    # Here, as it takes a seventh of a start: whoever needs no Consul is back sooner.
    from services.shared.discovery.registration import OwnInstance, Registration

    service = getattr(config, name)
    # Only what moves batches into the store has the role of a worker; nobody calls it.
    is_worker = config.role == "work" and name != "alerts"
    return Registration(
        config.discovery.consul,
        OwnInstance(
            service=f"{name}-worker" if is_worker else name,
            host=config.host,
            grpc_port=service.grpc_port + config.port_offset,
            http_port=service.http_port + config.port_offset,
            version=metadata.version("airis-epm"),
            role="all" if name == "alerts" else config.role,
            serves="" if is_worker else SIGNALS[name],
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
