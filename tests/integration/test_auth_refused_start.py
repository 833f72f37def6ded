"""A service that would let everybody in does not start, and says in one sentence what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from platform_process import PORTS
from service_process import ServiceProcess, free_offset

from services.shared.auth.key_folder import KeyFolder


def start(data_dir: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", "metrics"],
        env={**os.environ, "AIRIS_DATA_DIR": str(data_dir), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"AIRIS_HOST": "0.0.0.0"}, "host is 0.0.0.0"),
        ({"AIRIS_EMBEDDED": "false"}, "embedded profile only"),
        ({"AIRIS_AUTH__ENABLED": "true"}, "auth.jwks_file"),
        ({"AIRIS_AUTH__ENABLED": "true", "AIRIS_AUTH__JWKS_FILE": "/nowhere/jwks.json"}, "airis auth init"),
        ({"AIRIS_AUTH__ROLES": '{"auditor": ["logs.reed"]}'}, "logs.reed"),
    ],
)
def test_an_open_or_wrong_setting_refuses_the_start(environment: dict[str, str], named: str, tmp_path: Path) -> None:
    answer = start(tmp_path / "data", **environment)
    assert answer.returncode == 1
    assert named in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_on_this_machine_a_service_warns_in_its_log_that_it_is_open(tmp_path: Path) -> None:
    service = ServiceProcess("metrics", tmp_path / "data")
    service.start()
    assert service.stop() == 0
    assert "authentication_is_off" in service.log()


def test_a_lost_key_set_lets_nobody_in(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path / "data", key_bits=2048)
    keys.init()
    keys.jwks_file.unlink()
    airis, offset = Path(sys.executable).parent / "airis", str(free_offset(*PORTS))
    answer = subprocess.run(
        [airis, "up", "--data-dir", keys.path.parent, "--port-offset", offset],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"airis: there are keys in {keys.path}, and no jwks.json")
    assert keys.init()
