"""Starts one service: `python -m services metrics|logs|traces|alerts`."""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib import import_module
from typing import Protocol

import structlog
import uvloop

from services.config import Configuration, load
from services.shared.errors import AirisError
from services.shared.telemetry import setup

SERVICES = ("metrics", "logs", "traces", "alerts")


class Application(Protocol):
    """What each service's `app.py` makes."""

    async def start(self) -> None:
        """Serves when this returns."""

    async def stop(self) -> None:
        """Stops reading, finishes acknowledgements, then closes."""

    @property
    def background(self) -> asyncio.Task[None] | None:
        """What must run as long as the service does."""


def main() -> int:
    """Runs a service until SIGTERM or SIGINT.

    Returns:
        0 after an orderly stop, 1 after a fault, 2 when called wrongly.
    """
    if len(sys.argv) != 2 or sys.argv[1] not in SERVICES:
        print(f"usage: python -m services {'|'.join(SERVICES)}", file=sys.stderr)
        return 2
    name = sys.argv[1]
    try:
        config = load()
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
    # Imported by name, so that a service does not load what the others need.
    application: Application = import_module(f"services.{name}.app").build(config)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await application.start()
    logger.info("service_started", name=name)
    if application.background is not None:
        application.background.add_done_callback(lambda _: ended.set())
    await ended.wait()
    background = application.background
    failed = background is not None and background.done()
    if background is not None and background.done():
        logger.error("background_task_ended", name=name, exc_info=background.exception())
    await application.stop()
    logger.info("service_stopped", name=name)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
