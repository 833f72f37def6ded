"""`python -m services.demo.shop [--rate 2] [--seed N] [--metric-interval 5]`."""

from __future__ import annotations

import argparse
import asyncio

from services.demo.shop.app import Options, run
from services.demo.telemetry import endpoint


def main() -> None:
    """Reads the arguments and keeps the shop open until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m services.demo.shop", description="A shop that sends OTLP.")
    parser.add_argument("--rate", type=float, default=2.0, help="checkouts a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="where the random sources start (default: somewhere else each time)")
    parser.add_argument(
        "--metric-interval", type=float, default=5.0, help="seconds between metrics (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not (arguments.rate > 0 and arguments.metric_interval > 0):
        parser.error("--rate and --metric-interval must be positive")
    asyncio.run(run(endpoint(), Options(arguments.rate, arguments.seed, arguments.metric_interval)))


main()
