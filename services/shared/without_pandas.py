"""Keeps pandas out of a process: pyarrow imports it at its first conversion where it finds it, and chdb requires it.

Nothing here uses it; it takes a third of a second of the processor at each start, and 49 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PANDAS = "pandas"


class _Absent(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _PANDAS:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def leave_out_pandas() -> None:
    """From now on importing pandas fails as if it were not installed."""
    sys.meta_path.insert(0, _Absent())
