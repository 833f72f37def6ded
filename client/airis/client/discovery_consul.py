"""Consul's agent: asked by py-consul, on the event loop."""

from __future__ import annotations

import asyncio
import logging
import random
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import consul.aio
from airis.client.discovery import Instance
from consul.exceptions import ConsulException

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 4096
_WAIT_SECONDS = 30
# Consul adds up to a sixteenth of the wait, and must answer then.
_ANSWER_SECONDS = _WAIT_SECONDS * 17 / 16 + 5.0
_FIRST_DELAY = 0.2
_LONGEST_DELAY = 3.0
# A set that changes all the time is looked at about ten times a second.
_PAUSE = (0.05, 0.15)


class ConsulError(Exception):
    """Consul does not answer, or refuses; the text says which."""


class ConsulAgent:
    """Asks one agent. Use it from one event loop.

    Args:
        address: `host:port` of its HTTP API.
        token_file: A file with the ACL token, read for each question; None: `CONSUL_HTTP_TOKEN`, if set.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        self.address = address
        self._token_file = token_file
        self._client: Any = None

    async def ask(self, question: Callable[[Any, str | None], Awaitable[T]], within: float) -> T:
        """Asks something.

        Args:
            question: Gets py-consul's asynchronous client and the token.
            within: Seconds.

        Raises:
            ConsulError: There was no answer, or a refusal, or the token can be none.
        """
        try:
            async with asyncio.timeout(within):
                token = None if self._token_file is None else await asyncio.to_thread(_token, self._token_file)
                return await question(self._open(), token)
        except TimeoutError:
            raise ConsulError(f"Consul at {self.address} did not answer within {within:g} s.") from None
        except aiohttp.ClientError as error:
            raise ConsulError(f"Consul at {self.address} cannot be reached: {error}.") from error
        except ConsulException as error:
            text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
            raise ConsulError(f"Consul at {self.address} refuses: {text}.") from error
        except OSError as error:
            raise ConsulError(f"The token file {self._token_file} cannot be read: {error.strerror}.") from error

    async def close(self) -> None:
        """Ends its connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _open(self) -> Any:
        if self._client is None:
            host, _, port = self.address.rpartition(":")
            with warnings.catch_warnings():
                # Of how py-consul asks aiohttp not to check certificates, where there are none.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._client = consul.aio.Consul(host=host, port=int(port), scheme="http", verify=False)
        return self._client


class ConsulDirectory:
    """Implements `Directory` by blocking queries.

    Args:
        agent: The agent; closed with this.
        uniform: Gives a random number of a range, for delays.
    """

    def __init__(self, agent: ConsulAgent, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._agent = agent
        self._uniform = uniform
        self.fault = ""
        """Why the last question had no answer; empty: it had one."""

    async def watch(self, service: str) -> AsyncIterator[tuple[Instance, ...]]:
        """Gives the instances whose health check passes, sorted, now and after each change. Never ends.

        While Consul is away nothing is given: whoever reads keeps what was given last.
        """
        index: str | None = None
        last: tuple[Instance, ...] | None = None
        delay = _FIRST_DELAY
        while True:
            try:
                answered, entries = await self._agent.ask(_passing(service, index), _ANSWER_SECONDS)
            except ConsulError as error:
                if not self.fault:
                    _log.warning("%s The instances that are known stay in use.", error)
                self.fault = str(error)
                index = None
                await asyncio.sleep(self._uniform(delay / 2, delay))
                delay = min(delay * 2, _LONGEST_DELAY)
                continue
            self.fault, delay = "", _FIRST_DELAY
            # An index that goes back means that Consul began anew; 0 would not wait.
            index = answered if int(answered) > 0 and int(answered) >= int(index or 0) else None
            found = tuple(sorted(instance for entry in entries or () if (instance := _instance(entry)) is not None))
            if found != last:
                last = found
                yield found
            await asyncio.sleep(self._uniform(*_PAUSE))

    async def close(self) -> None:
        """Ends the connections to the agent."""
        await self._agent.close()


def _passing(service: str, index: str | None) -> Callable[[Any, str | None], Awaitable[tuple[str, Any]]]:
    def question(client: Any, token: str | None) -> Awaitable[tuple[str, Any]]:
        wait = None if index is None else f"{_WAIT_SECONDS}s"
        answer: Awaitable[tuple[str, Any]] = client.health.service(
            service, passing=True, index=index, wait=wait, token=token
        )
        return answer

    return question


def _instance(entry: dict[str, Any]) -> Instance | None:
    found = entry["Service"]
    http_port = str((found.get("Meta") or {}).get("http_port", ""))
    host, port = found["Address"] or entry["Node"]["Address"], int(found["Port"])
    if not host or not 0 < port < 65536:
        _log.warning("The instance %s in Consul has no address and is left out.", found["ID"])
        return None
    return Instance(f"{entry['Node']['Node']}/{found['ID']}", host, port, int(http_port) if http_port.isdigit() else 0)


def _token(file: Path) -> str:
    with file.open("rb") as opened:
        token = opened.read(MAX_TOKEN_BYTES + 2).decode("ascii", "replace").strip()
    if not (0 < len(token) <= MAX_TOKEN_BYTES and token.isascii() and token.isprintable() and " " not in token):
        # What aiohttp would say of such a header may show it.
        raise ConsulError(
            f"The token file {file} is empty, too long, or has more than one line of visible characters: it must hold "
            "the token and nothing else."
        )
    return token
