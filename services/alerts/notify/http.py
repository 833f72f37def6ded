"""HTTP POSTs to addresses that users gave: bounded, without redirects, and not to this machine unless allowed."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.alerts.checks import check_address, is_local_address
from services.alerts.model import Clock
from services.alerts.notify.delivery import DeliveryError
from services.shared.errors import InvalidArgumentError

_MAX_CONNECTIONS = 64
# Worth another attempt: the receiver is busy or briefly out of order.
_TRANSIENT = frozenset({408, 425, 429})


class PublicResolver(AbstractResolver):
    """Finds the addresses of a name and refuses those that are not reachable from everywhere.

    Checked when connecting, not before: the answer to a name may change in between.

    Args:
        resolver: Asks for the addresses.
    """

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        results = await self._resolver.resolve(host, port, family)
        if any(is_local_address(result["host"]) for result in results):
            raise DeliveryError("the address leads to this machine or its network", permanent=True)
        return results

    async def close(self) -> None:
        await self._resolver.close()


class HttpPoster:
    """Posts.

    Args:
        timeout: Seconds for a whole attempt.
        clock: Tells how long it is to a moment that an answer names.
        allow_local: Whether http and addresses of this machine and its network are allowed.
        resolver: Finds the addresses of names; None: as the machine does.
    """

    def __init__(
        self, timeout: float, clock: Clock, *, allow_local: bool, resolver: AbstractResolver | None = None
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._allow_local = allow_local
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Posts once.

        Raises:
            DeliveryError: The answer is not a 2xx, or there is none. The text does not contain the address.
        """
        try:
            check_address(url, "url", self._allow_local)
        except InvalidArgumentError as error:
            raise DeliveryError(f"the channel's {error.message}", permanent=True) from error
        try:
            async with self._open().post(url, data=body, headers=headers, allow_redirects=False) as response:
                self._judge(response)
        except DeliveryError:
            raise
        except TimeoutError as error:
            raise DeliveryError(f"no answer in {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise DeliveryError(f"not reached: {type(error).__name__}") from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            if not self._allow_local:
                resolver = PublicResolver(resolver)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, resolver=resolver),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"User-Agent": "airis-alerts/1"},
                trust_env=False,
            )
        return self._session

    def _judge(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if 200 <= status < 300:
            return
        transient = status in _TRANSIENT or status >= 500
        raise DeliveryError(
            f"answered {status}", permanent=not transient, retry_after=_retry_after(response.headers, self._clock())
        )


def _retry_after(headers: Mapping[str, Any], now: datetime) -> float | None:
    text = str(headers.get("Retry-After", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment.astimezone(UTC) - now).total_seconds())
