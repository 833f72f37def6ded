"""What the supervisor tells the services it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import config
from services.supervisor import ports
from services.supervisor.services import readiness, service_environment, service_program

OFFSET = 500


@pytest.mark.parametrize("name", ports.GRPC)
def test_a_profile_moves_no_service_from_where_others_look_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "profile.yaml"
    moved = [f"{each}: {{grpc_port: 7001, http_port: 7002}}\n" for each in ports.GRPC]
    profile.write_text("".join(moved) + "port_offset: 7\n")
    told = service_program(name, OFFSET, service_environment(tmp_path, OFFSET, "", "", profile)).command.environment
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    configured = config.read()
    for each in ports.GRPC:
        service, offset = getattr(configured, each), configured.port_offset
        assert service_program(each, OFFSET, {}).address == f"127.0.0.1:{service.grpc_port + offset}"
        assert readiness(each, OFFSET) == f"http://127.0.0.1:{service.http_port + offset}/readyz"
