"""Programs of earlier commits, which write data as it was then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
# The first of each signal made its tables.
_LATER_MIGRATIONS = ":(glob)services/*/store/sql/000[2-9]*.sql"


def has_history() -> bool:
    """Whether the earlier commits are here, as they are in a whole clone."""
    try:
        return _git("rev-parse", "--is-shallow-repository").strip() == "false" and bool(before_migrations())
    except (OSError, subprocess.CalledProcessError):
        return False


def before_migrations() -> list[str]:
    """The commits before each that brought migrations, the newest first."""
    added = _git("log", "--diff-filter=A", "--format=%H", "--", _LATER_MIGRATIONS)
    return [f"{commit}^" for commit in added.split()]


def program_of(commit: str, folder: Path) -> str:
    """Puts a commit's program into a folder.

    Returns:
        The PYTHONPATH with which it runs in place of this one.
    """
    folder.mkdir()
    archive = subprocess.Popen(
        ["git", "archive", commit, "services", "resilience", "gen", "client", "envoy", "proto"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
    )
    subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
    assert archive.wait() == 0
    return os.pathsep.join(str(folder / part) for part in ("", "gen", "client"))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, check=True, capture_output=True, text=True).stdout
