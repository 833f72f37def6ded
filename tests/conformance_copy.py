"""A copy of the repository whose contracts a test may change, and `make generate` in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contracts_copy import ROOT

_COPIED = ("proto", "gen", "deploy", "envoy", "docs", "resilience", "services")
_FILES = ("Makefile", "pyproject.toml", "requirements.lock")


class ContractsCopy:
    """The copy.

    Args:
        folder: Where it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in _COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _FILES:
            shutil.copy(ROOT / name, folder / name)
        # The same tools, but a folder of its own for what is written there.
        environment = folder / ".venv"
        environment.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (environment / name).symlink_to(Path(sys.prefix) / name)
        (environment / "installed").touch()

    def change(self, proto: str, rpc: str, replacements: Mapping[str, str]) -> None:
        """Replaces texts in the declaration of one RPC, each of which must be there."""
        path = self.root / "proto" / proto
        text = path.read_text(encoding="utf-8")
        begin = text.index(f"rpc {rpc}(")
        end = text.index("\n  }\n", begin)
        declaration = text[begin:end]
        for old, new in replacements.items():
            assert old in declaration, old
            declaration = declaration.replace(old, new)
        path.write_text(text[:begin] + declaration + text[end:], encoding="utf-8")

    def replace(self, proto: str, pattern: str, new: str) -> None:
        """Replaces the one place that a pattern matches."""
        path = self.root / "proto" / proto
        text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), flags=re.S)
        assert count == 1, pattern
        path.write_text(text, encoding="utf-8")

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        """Runs `make` in the copy."""
        return subprocess.run(
            ["make", "--no-print-directory", target], cwd=self.root, capture_output=True, text=True, check=False,
            env=self.environment(), timeout=100,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs Python in the repository with the code that the copy's contracts give."""
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
            env={**self.environment(), **environment},
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Has the copy's generated code found first."""
        paths = (self.root / "gen", ROOT / "tests")
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONDONTWRITEBYTECODE": "1"}


def differences(before: Any, after: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Where two structures of JSON differ, and what stands there; a missing one is None."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from differences(before.get(key), after.get(key), (*at, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, (*at, index))
    elif before != after:
        yield at, before, after
