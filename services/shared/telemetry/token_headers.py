"""The token for exporters: their headers are fixed once, but a token is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import structlog
from airis.client.credentials import TokenSource
from airis.client.errors import AirisError

Header = tuple[str, str]


class TokenHeaders(Sequence[Header]):
    """Headers of an OTLP/gRPC exporter, which goes through them for each export: the token file's of that moment.

    Args:
        file: Holds the token. While it is not there, nothing is sent along.
    """

    def __init__(self, file: Path) -> None:
        self._source = TokenSource(file=file)
        self._lock = threading.Lock()
        self._is_missing = False

    def __iter__(self) -> Iterator[Header]:
        return iter(self._headers())

    def __len__(self) -> int:
        # An exporter that finds none looks for them in the environment instead.
        return 1

    @overload
    def __getitem__(self, index: int) -> Header: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Header]: ...

    def __getitem__(self, index: int | slice) -> Header | Sequence[Header]:
        return self._headers()[index]

    def _headers(self) -> tuple[Header, ...]:
        try:
            headers: tuple[Header, ...] = (("authorization", self._source.header()),)
        except AirisError as error:
            with self._lock:
                told, self._is_missing = self._is_missing, True
            if not told:
                structlog.get_logger(__name__).warning("telemetry_token_missing", cause=error.message)
            return ()
        self._is_missing = False
        return headers
