"""The configuration of the handover."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class HandoverConfig(BaseModel):
    """Where frontends and owners meet.

    Attributes:
        folder: Of the sockets: one for each owner, named after its signal. Whoever may enter it may store data in
            anybody's name. None: there are no frontends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None

    @staticmethod
    def socket(folder: Path, signal: str) -> Path:
        """Where the owner of a signal's store listens."""
        return folder / f"{signal}.sock"
