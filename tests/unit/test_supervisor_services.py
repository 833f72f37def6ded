"""What the supervisor tells the services it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import config
from services.supervisor import ports
from services.supervisor.services import readiness, service_environment, service_program

OFFSET = 500


@pytest.mark.parametrize("name", ports.GRPC)
def test_a_profile_moves_no_service_from_where_envoy_and_the_probe_look_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile.yaml"
    profile.write_text(f"{name}: {{grpc_port: 7001, http_port: 7002}}\nport_offset: 7\n")
    program = service_program(name, OFFSET, service_environment(tmp_path, OFFSET, "", "", profile))
    for variable, value in program.command.environment.items():
        monkeypatch.setenv(variable, value)
    configured = config.read()
    service = getattr(configured, name)
    assert program.address == f"127.0.0.1:{service.grpc_port + configured.port_offset}"
    assert readiness(name, OFFSET) == f"http://127.0.0.1:{service.http_port + configured.port_offset}/readyz"
