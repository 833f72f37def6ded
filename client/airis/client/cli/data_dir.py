"""The option that says where data lives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

DataDir = Annotated[
    Optional[Path],  # noqa: UP045 (typer resolves annotations itself)
    typer.Option("--data-dir", help="Where data lives.", show_default="~/.local/share/airis", file_okay=False),
]


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/airis`, or `~/.local/share/airis`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "airis"
