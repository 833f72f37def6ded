"""A service loads what its profile needs, and no more: its callers wait while it starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

ELSEWHERE = ("aiokafka", "consul", "elasticsearch", "requests")


@pytest.mark.parametrize("name", ["metrics", "logs", "traces", "alerts"])
def test_a_service_of_the_embedded_profile_loads_no_client_of_what_it_does_not_use(name: str) -> None:
    program = f"import services.__main__, services.{name}.app, sys; print([m for m in {ELSEWHERE} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=110)
    assert done.stdout.strip() == "[]"
