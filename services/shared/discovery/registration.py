"""An instance in Consul: registered while it serves, again when Consul lost it, and gone before it stops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from airis.client.discovery_consul import ConsulAgent, ConsulError
from consul import Check

from services.shared.discovery.config import ConsulConfig
from services.shared.errors import InvalidArgumentError

logger = structlog.get_logger(__name__)

_ANSWER_SECONDS = 5.0
_LEAVING_SECONDS = 2.0
_PASSING = "passing"
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class OwnInstance:
    """What an instance tells of itself.

    Attributes:
        service: What it is, without the prefix: "metrics", or "metrics-worker" for one that takes no calls.
        host: The address that it listens on.
        grpc_port: With the offset; the health check asks it.
        http_port: With the offset.
        version: Of the program.
        role: What it does: "all", "serve" or "work".
        serves: The full name of the gRPC service that it serves, whose health is asked for: whoever else takes its
            address after a crash does not answer for it. Empty: none, as a worker.
    """

    service: str
    host: str
    grpc_port: int
    http_port: int
    version: str
    role: str
    serves: str


class Registration:
    """Keeps an instance known to Consul, and never keeps it from serving.

    Its id is made of its address, or, where that is found out, of its host's name: one that is started again after a
    crash takes its own place, at a new address too.

    Args:
        config: Where Consul is, and how it checks.
        instance: What to tell.
        uniform: Gives a random number of a range, so that instances do not ask in step.

    Raises:
        InvalidArgumentError: Nobody can be told the address that it listens on.
    """

    def __init__(
        self, config: ConsulConfig, instance: OwnInstance, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        is_auto = config.advertise_host == AUTO
        host = socket.gethostname() if is_auto else config.advertise_host or instance.host
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host).is_unspecified:
                raise InvalidArgumentError(
                    f"The service listens on all addresses ({host}), and Consul needs one that others reach it by: set "
                    "discovery.consul.advertise_host to it, or to auto."
                )
        self._config = config
        self._host = "" if is_auto else host
        self._instance = instance
        self._uniform = uniform
        self._agent = ConsulAgent(config.address, Path(config.token_file) if config.token_file else None)
        self._keeper: asyncio.Task[None] | None = None
        self._was_away = True
        self._is_known = False
        self.service = f"{config.service_prefix}-{instance.service}"
        self.id = f"{self.service}-{host.replace(':', '.')}-{instance.grpc_port}"

    def start(self) -> None:
        """Registers, now or as soon as Consul answers; returns at once. The instance answers health checks already."""
        self._keeper = asyncio.create_task(self._keep(), name="registration")

    async def leave(self) -> None:
        """Deregisters, and gives callers time to learn of it. If Consul is away, its health check will find out."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        try:
            await self._agent.ask(self._deregister, _LEAVING_SECONDS)
            logger.info("deregistered", service=self.service, id=self.id)
        except ConsulError as error:
            logger.warning("deregistration_failed", id=self.id, error=str(error))
        if self._is_known:
            await asyncio.sleep(self._config.leave_seconds)
        await self._agent.close()

    async def _keep(self) -> None:
        wait, fault = self._config.refresh_interval, ""
        while True:
            try:
                check = await self._agent.ask(self._check, _ANSWER_SECONDS)
                if check is None or self._is_forgotten(check) or not self._is_known:
                    host = self._host or await asyncio.to_thread(_address_towards, self._config.address)
                    await self._agent.ask(self._deregister, _ANSWER_SECONDS)
                    await self._agent.ask(partial(self._register, host), _ANSWER_SECONDS)
                    logger.info("registered", service=self.service, id=self.id, again=self._is_known)
                    self._is_known = True
                self._was_away, fault = False, ""
            except ConsulError as error:
                if not fault:
                    logger.warning("registration_delayed", id=self.id, error=str(error))
                self._was_away, fault = True, str(error)
            except Exception as error:
                # Without a keeper nobody would ever find the instance again, once Consul has lost it.
                if fault != repr(error):
                    logger.error("registration_failed", id=self.id, exc_info=error)
                self._was_away, fault = True, repr(error)
            await asyncio.sleep(self._uniform(wait * 0.7, wait * 1.3))

    async def _check(self, client: Any, token: str | None) -> dict[str, Any] | None:
        checks = await client.agent.checks(filter_expr=f'ServiceID == "{self.id}"', token=token)
        return next(iter((checks or {}).values()), None)

    def _is_forgotten(self, check: dict[str, Any]) -> bool:
        """After Consul was started again, perhaps between two looks, it calls each instance critical until its first
        check. What that found it would say."""
        return check["Status"] != _PASSING and (self._was_away or not check.get("Output"))

    def _register(self, host: str, client: Any, token: str | None) -> Awaitable[bool]:
        config, instance = self._config, self._instance
        address = f"[{host}]" if ":" in host else host
        check = Check.grpc(
            f"{address}:{instance.grpc_port}" + (f"/{instance.serves}" if instance.serves else ""),
            f"{config.check_interval:g}s",
            timeout=f"{config.check_timeout:g}s",
            deregister=f"{config.deregister_after:g}s",
        )
        meta = {"http_port": str(instance.http_port), "version": instance.version, "role": instance.role}
        registered: Awaitable[bool] = client.agent.service.register(
            self.service,
            service_id=self.id,
            address=host,
            port=instance.grpc_port,
            meta=meta,
            # It serves; without this nobody would call it until the first check, which Consul makes at a random
            # moment of the interval.
            check={**check, "status": _PASSING},
            token=token,
        )
        return registered

    def _deregister(self, client: Any, token: str | None) -> Awaitable[bool]:
        # What is not there is no error.
        gone: Awaitable[bool] = client.agent.service.deregister(self.id, token=token)
        return gone


def _address_towards(consul: str) -> str:
    # Of several networks, the one that Consul is on. Nothing is sent: the system only chooses the way.
    host, _, port = consul.rpartition(":")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as way:
            way.connect(address)
            return str(way.getsockname()[0])
    except OSError as error:
        raise ConsulError(f"There is no way to Consul at {consul}: {error}.") from error
