"""The configuration of discovery."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

CONSULS_SHORTEST = 60.0


class ConsulConfig(BaseModel):
    """Settings of Consul.

    Attributes:
        address: `host:port` of the agent's HTTP API.
        token_file: A file with the ACL token; empty: none is sent, unless `CONSUL_HTTP_TOKEN` is set.
        service_prefix: Services are registered as `<prefix>-<name>`.
        advertise_host: The address that others reach this instance by; empty: the one it listens on; "auto": the
            one that it has on the network on which Consul is, as a container should.
        check_interval: Seconds between two gRPC health checks; Consul's own least is 1.
        check_timeout: Seconds after which one has failed.
        deregister_after: Seconds after which an instance that stays critical is forgotten; Consul's own least is 60.
        refresh_interval: Seconds between two looks at whether Consul still knows this instance.
        leave_seconds: Seconds between deregistration and the end of serving, in which callers learn of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str = Field("127.0.0.1:8500", pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s/:@?#]+):[0-9]{1,5}$")
    token_file: str = ""
    service_prefix: str = Field("airis", pattern=r"^[a-z0-9-]{1,50}$")
    advertise_host: str = ""
    check_interval: float = Field(30.0, ge=1)
    check_timeout: float = Field(10.0, gt=0)
    deregister_after: float = 90.0
    refresh_interval: float = Field(5.0, gt=0)
    leave_seconds: float = Field(1.0, ge=0, le=60)

    @field_validator("deregister_after")
    @classmethod
    def _check_deregister_after(cls, seconds: float) -> float:
        if seconds < CONSULS_SHORTEST:
            raise ValueError(
                f"{seconds:g} s would be {CONSULS_SHORTEST:g} s: Consul forgets no instance sooner; give that or more"
            )
        return seconds


class DiscoveryConfig(BaseModel):
    """Settings of discovery.

    Attributes:
        kind: "static": addresses as configured; "consul": instances register there and are found there.
        consul: Where Consul is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["static", "consul"] = "static"
    consul: ConsulConfig = ConsulConfig()
