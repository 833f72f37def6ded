"""Data that earlier programs wrote is taken over while everything is sent, and they refuse data of later ones."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from faults.embedded import Embedded
from faults.old_programs import before_migrations, has_history, program_of

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_program_takes_over_the_data_of_the_one_before_migrations(
    steps: int, tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier one is killed amid its work: its journals, ClickHouses and PostgreSQL are left as they are then."""
    if not has_history():
        pytest.skip("there are no earlier programs here: this needs git and a clone with the whole history")
    earlier = program_of(before_migrations()[steps], tmp_path / "program")
    monkeypatch.setenv("PYTHONPATH", earlier)
    data = tmp_path / "data"
    async with Embedded(data, chance) as platform:
        await platform.pause(5.0, at_least=2.0)
        monkeypatch.delenv("PYTHONPATH")
        await platform.strike(f"upgrade, {steps + 1} back", platform.kill_all)
    monkeypatch.setenv("PYTHONPATH", earlier)
    with pytest.raises(AssertionError, match="written by a newer version"):
        await asyncio.to_thread(platform.platform.start)
