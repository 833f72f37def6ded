"""How many files and connections a process may have open."""

from __future__ import annotations

import contextlib
import resource

MOST = 1 << 20
"""Where a system sets no bound, some programs would go through all numbers that are possible."""


def allow_many_open_files() -> None:
    """Raises this process's soft limit to the hard one, for it and for what it starts; 1024 are soon used up.

    Where the system refuses that, everything stays as it is.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
