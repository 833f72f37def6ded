"""Folders, as command lines name them."""

from __future__ import annotations

from pathlib import Path


def absolute(text: str) -> Path:
    """A folder below the working directory of this process, which is not that of all it starts."""
    return Path(text).expanduser().absolute()
