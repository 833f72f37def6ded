"""Where the service's log lines go."""

from __future__ import annotations

import contextlib
from typing import TextIO


class LossyOutput:
    """A stream that drops what it cannot write: a full disk under a log file is no reason to stop storing.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, if that can be done; gives its length in any case."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hands on what was written, if that can be done."""
        with contextlib.suppress(OSError):
            self._stream.flush()
