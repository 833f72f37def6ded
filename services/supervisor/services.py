"""The four services, and the demo's programs, as children of the supervisor."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from services.supervisor import ports
from services.supervisor.http import answers_ok
from services.supervisor.process import Command
from services.supervisor.program import Program

# -P: what a folder named `services` in the current directory holds is not ours.
MODULE = (sys.executable, "-P", "-m")

ENGINES = {
    "metrics": "ClickHouse (chdb)",
    "logs": "ClickHouse (chdb)",
    "traces": "ClickHouse (chdb)",
    "alerts": "PostgreSQL, Redis",
}


def service_environment(
    data_dir: Path, port_offset: int, postgres_dsn: str, redis_url: str, profile: Path | None
) -> dict[str, str]:
    """What a service is told in its environment; the rest is its configuration's defaults."""
    # Envoy, the probe and the other services look for them there, so a profile with other ports must not move them.
    environment = {
        **{f"AIRIS_{name.upper()}__GRPC_PORT": str(port) for name, port in ports.GRPC.items()},
        **{f"AIRIS_{name.upper()}__HTTP_PORT": str(port) for name, port in ports.HTTP.items()},
        "AIRIS_EMBEDDED": "true",
        "AIRIS_DATA_DIR": str(data_dir),
        "AIRIS_PORT_OFFSET": str(port_offset),
        "AIRIS_POSTGRES__DSN": postgres_dsn,
        "AIRIS_REDIS__URL": redis_url,
        "AIRIS_TELEMETRY__OTLP_ENDPOINT": otlp_endpoint(port_offset),
        "PYTHONUNBUFFERED": "1",
    }
    if profile is not None:
        # A name of a profile, or a file.
        environment["AIRIS_PROFILE"] = str(profile.resolve() if profile.is_file() else profile)
    return environment


def otlp_endpoint(port_offset: int) -> str:
    """Where the platform takes OTLP/gRPC, its own telemetry included."""
    return f"http://{ports.LOOPBACK}:{ports.ENVOY['OTLP/gRPC'] + port_offset}"


def readiness(name: str, port_offset: int) -> str:
    """The URL that answers 200 while the service serves."""
    return f"http://{ports.LOOPBACK}:{ports.HTTP[name] + port_offset}/readyz"


def aliveness(frontend: str, port_offset: int) -> str:
    """The URL that answers 200 while the frontend lives: whether it is ready depends on the services."""
    return f"http://{ports.LOOPBACK}:{ports.http_port_of_frontend(frontend) + port_offset}/healthz"


def service_program(name: str, port_offset: int, environment: Mapping[str, str]) -> Program:
    """One of metrics, logs, traces, alerts."""
    return Program(
        name=name,
        engine=ENGINES[name],
        address=f"{ports.LOOPBACK}:{ports.GRPC[name] + port_offset}",
        command=Command([*MODULE, "services", name], environment, stop_seconds=30.0),
        probe=partial(answers_ok, readiness(name, port_offset)),
        # Replaying a long journal takes its time.
        start_seconds=120.0,
    )


def frontend_programs(count: int, port_offset: int, environment: Mapping[str, str]) -> list[Program]:
    """Frontends before the services that have the stores."""
    return [_frontend(number, port_offset, environment) for number in range(1, count + 1)]


def _frontend(number: int, port_offset: int, environment: Mapping[str, str]) -> Program:
    shift = ports.of_frontend(number) + port_offset
    name = f"{ports.FRONTEND}{number}"
    grpc = [str(ports.GRPC[taken] + shift) for taken in ports.TAKEN_BY_FRONTENDS]
    return Program(
        name=name,
        engine="metrics, logs, traces",
        address=f"{ports.LOOPBACK}:{', '.join(grpc)}",
        command=Command(
            [*MODULE, "services", "frontend"],
            {**environment, "AIRIS_FRONTEND__NUMBER": str(number)},
            stop_seconds=30.0,
        ),
        probe=partial(answers_ok, aliveness(name, port_offset)),
    )


def demo_programs(port_offset: int, environment: Mapping[str, str]) -> list[Program]:
    """Live input: a small shop of instrumented services, and this machine's own metrics."""
    endpoint = otlp_endpoint(port_offset)
    told = {**environment, "AIRIS_OTLP_ENDPOINT": endpoint}
    return [
        Program(
            name=name,
            engine="demo",
            address=f"to {endpoint}",
            command=Command([*MODULE, f"services.demo.{module}"], told, stop_seconds=5.0),
        )
        for name, module in (("shop", "shop"), ("host", "host_metrics"))
    ]
