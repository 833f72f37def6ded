"""Which cores the servers and the load generator have for calls, where there are enough to part them.

The goal is calls a second on three server cores: with more cores the servers have three, and the generator the rest.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import psutil

SERVER_CORES = 3
# A process of the load generator sends some 4,000 calls a second: three are needed to see 10,000.
_FEWEST_GENERATORS, _MOST_GENERATORS = 3, 8


@dataclass(frozen=True)
class Division:
    """Who has which cores.

    Attributes:
        server: The servers'; empty: nobody is kept from any core.
        generator: The load generator's; empty with the other.
        generators: How many processes it has.
        frontends: How many a platform that is to have some has: the process that has the store keeps a core.
    """

    server: tuple[int, ...]
    generator: tuple[int, ...]
    generators: int
    frontends: int = 1

    def __str__(self) -> str:
        processes = f"{self.generators} processes of the load generator"
        if not self.server:
            return f"the server and {processes} share all cores"
        return f"the server has cores {_listed(self.server)}; {processes} have {_listed(self.generator)}"


def divided(cores: Collection[int], allowed: float) -> Division:
    """Parts cores for calls; fewer than five are shared.

    Args:
        cores: What everything may run on.
        allowed: How many of them may be busy at once.
    """
    count = int(min(allowed, len(cores)))
    frontends = max(1, min(count, SERVER_CORES) - 1)
    if count <= SERVER_CORES:
        return Division((), (), 2, frontends)
    generators = max(_FEWEST_GENERATORS, min(_MOST_GENERATORS, count - SERVER_CORES))
    if count < SERVER_CORES + 2:
        return Division((), (), generators, frontends)
    ordered = tuple(sorted(cores))
    return Division(ordered[:SERVER_CORES], ordered[SERVER_CORES:count], generators, frontends)


@contextlib.contextmanager
def kept_to(cores: Collection[int]) -> Iterator[None]:
    """What this thread starts meanwhile may use these cores only, and so may the thread; none: nothing changes."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def keep(pids: Iterable[int], cores: Collection[int]) -> None:
    """Lets all threads of processes that run use these cores only; none: nothing changes.

    Peers are started by a thread that is older than a run, so that they do not have the cores of whoever asks for them.
    """
    for pid in pids if cores else ():
        with contextlib.suppress(psutil.Error):
            for thread in psutil.Process(pid).threads():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)


def _listed(cores: Collection[int]) -> str:
    return ", ".join(map(str, cores))
