"""A process may have open what the system allows, not what a shell begins with."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from services.shared.open_files import MOST, allow_many_open_files

LIMITED = """
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
{begin}
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
SERVICE = "from services.__main__ import main; main(['metrics'])"
SUPERVISOR = "from services.supervisor.app import up; up(Path('data'), -1, False, None)"


class Limits:
    """The limits of a process as a test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.now = (soft, hard)
        monkeypatch.setattr(resource, "getrlimit", lambda kind: self.now)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, kind: int, limits: tuple[int, int]) -> None:
        self.now = limits


@pytest.mark.parametrize("begin", [SERVICE, SUPERVISOR], ids=["service", "supervisor"])
def test_a_process_begins_by_raising_its_limit(begin: str, tmp_path: Path) -> None:
    # Each of them ends at once, as what it is told is wrong.
    result = subprocess.run(
        [sys.executable, "-c", LIMITED.format(begin=begin)],
        cwd=tmp_path,
        env={**os.environ, "AIRIS_PROFILE": "none-of-that-name"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert result.stdout.split()[-1:] == [str(min(hard, MOST))], result.stderr


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 524_288, 524_288),
        (1024, 1 << 30, MOST),
        (1024, resource.RLIM_INFINITY, MOST),
        (4096, 4096, 4096),
        (MOST + 1, 1 << 30, MOST + 1),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    ],
)
def test_the_limit_is_raised_to_what_is_allowed_within_reason_and_never_lowered(
    soft: int, hard: int, raised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(monkeypatch, soft, hard)
    allow_many_open_files()
    assert limits.now == (raised, hard)


def test_where_it_may_not_be_raised_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, 1024, 4096)

    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    allow_many_open_files()
    assert limits.now == (1024, 4096)
