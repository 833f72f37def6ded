"""The token that calls bring along, and for which tenant they act."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import grpc
from airis.client.errors import InvalidArgumentError, failure

TOKEN_VARIABLE = "AIRIS_TOKEN"  # noqa: S105 (a name)
TOKEN_FILE_VARIABLE = "AIRIS_TOKEN_FILE"  # noqa: S105
MAX_TOKEN_BYTES = 8 * 1024

_Metadata = tuple[tuple[str, str], ...]

_acting_tenant: ContextVar[str | None] = ContextVar("acting_tenant", default=None)


@contextlib.contextmanager
def acting_for(tenant: str) -> Iterator[None]:
    """Calls within act for this tenant: only for tokens of the platform's own services, which are for all of them."""
    before = _acting_tenant.set(tenant)
    try:
        yield
    finally:
        _acting_tenant.reset(before)


class TokenSource:
    """Gives the token of now. Thread-safe; never shows it otherwise.

    Args:
        token: The token itself.
        file: A file with the token; read again when it has changed. One of the two.

    Raises:
        InvalidArgumentError: Both are given, or neither, or the token can be none.
    """

    def __init__(self, token: str | None = None, file: Path | str | None = None) -> None:
        if (token is None) == (file is None):
            raise InvalidArgumentError("Give a token or a token file, not both.", code=grpc.StatusCode.INVALID_ARGUMENT)
        self._file = None if file is None else Path(file)
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._header = "" if token is None else _header(token, "The token")

    @classmethod
    def find(
        cls,
        token: str | None = None,
        file: Path | str | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> TokenSource | None:
        """What is given, or else what `AIRIS_TOKEN` or `AIRIS_TOKEN_FILE` says; None: no token. Raises as above."""
        if token is None and file is None:
            token = environment.get(TOKEN_VARIABLE) or None
            file = None if token else environment.get(TOKEN_FILE_VARIABLE) or None
        return None if token is None and file is None else cls(token, file)

    def header(self) -> str:
        """`Bearer` and the token.

        Raises:
            AirisError: The file cannot be read and never could, or holds no token.
        """
        if self._file is None:
            return self._header
        with self._lock:
            try:
                status = self._file.stat()
                stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
                if stamp != self._seen:
                    self._header = _header(_read(self._file), f"The token file {self._file}")
                    self._seen = stamp
            except OSError as error:
                # While it is being replaced, the last one may still do.
                if not self._header:
                    raise failure(
                        grpc.StatusCode.UNAUTHENTICATED,
                        f"The token file {self._file} cannot be read: {error.strerror}.",
                        reason="TOKEN_MISSING",
                    ) from None
            return self._header

    def metadata(self) -> _Metadata:
        """What a call brings along. Raises as `header` does."""
        tenant = _acting_tenant.get()
        token = ("authorization", self.header())
        return (token,) if tenant is None else (token, ("airis-tenant", tenant))

    def __repr__(self) -> str:
        return f"TokenSource({'a token' if self._file is None else self._file})"


class AuthorizedChannel(grpc.aio.Channel):  # type: ignore[misc]
    """A channel whose every call brings the token of its moment.

    Args:
        channel: The channel.
        source: Gives the token.
    """

    def __init__(self, channel: grpc.aio.Channel, source: TokenSource) -> None:
        self._channel = channel
        self._source = source

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._with_token(self._channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._with_token(self._channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._with_token(self._channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As of `grpc.aio.Channel`."""
        return self._with_token(self._channel.stream_stream(method, *args, **kwargs))

    def _with_token(self, multicallable: Any) -> Callable[..., Any]:
        source = self._source

        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            return multicallable(*request, metadata=(*(metadata or ()), *source.metadata()), **options)

        return call

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel."""
        await self._channel.close(grace)

    async def __aenter__(self) -> AuthorizedChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._channel.__aexit__(*exception)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """As of `grpc.aio.Channel`."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As of `grpc.aio.Channel`."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As of `grpc.aio.Channel`."""
        await self._channel.channel_ready()


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(MAX_TOKEN_BYTES + 2).decode("ascii", "replace")


def _header(token: str, what: str) -> str:
    token = token.strip()
    # gRPC would quote what it cannot send in its own error.
    if not (0 < len(token) <= MAX_TOKEN_BYTES and token.isascii() and token.isprintable() and " " not in token):
        raise failure(
            grpc.StatusCode.UNAUTHENTICATED,
            f"{what} is empty, too long, or has characters that no token has.",
            reason="TOKEN_INVALID",
        )
    return f"Bearer {token}"
