"""`python -m deploy.servers fetch`: fills the cache with the servers."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

from deploy.servers.cache import Cache
from deploy.servers.catalogue import SERVERS, server_class
from deploy.servers.errors import ServerError


def main() -> int:
    """Runs the command; returns 0: done, 1: a server cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m deploy.servers", description="The real servers, for tests.")
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="get what is missing in the cache")
    fetch.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(SERVERS)}; none: all")
    fetch.add_argument("--list", action="store_true", help="show what there is, and change nothing")
    arguments = parser.parse_args()
    cache = Cache()
    try:
        recipes = [server_class(name).recipe for name in dict.fromkeys(arguments.names or SERVERS)]
        if arguments.list:
            print(f"{'server':<15}{'version':<12}{'MB':>5}  state")
            for recipe in recipes:
                state = "ready" if cache.has(recipe) else "missing"
                print(f"{recipe.name:<15}{recipe.version:<12}{recipe.megabytes:>5}  {state}")
            print(f"in {cache.folder}")
            return 0
        started = time.monotonic()
        cache.fill(recipes, _say)
        _say(f"{len(recipes)} servers are in {cache.folder} ({time.monotonic() - started:.0f} s)")
    except ServerError as error:
        print(f"deploy.servers: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    # Whether anybody reads on is no matter of the work; in one piece, as several threads say something.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
