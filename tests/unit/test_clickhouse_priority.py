"""Who goes first where calls and the engine in the same process both want the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from services.shared.clickhouse.client import ClickHouse

async def main() -> None:
    clickhouse = ClickHouse(f"chdb://{sys.argv[1]}")
    await clickhouse.open()
    await clickhouse.rows("SELECT sum(number) FROM numbers_mt(10000000)", timeout=30)
    priorities: dict[str, list[int]] = {}
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        priorities.setdefault(name, []).append(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    engine = priorities["BgSchPool"] + priorities["ThreadPool"]
    print(json.dumps({"loop": os.getpriority(os.PRIO_PROCESS, 0), "engine": engine}))
    await clickhouse.close()

asyncio.run(main())
"""


def test_calls_go_before_the_engine_in_their_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "clickhouse")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["loop"] == os.getpriority(os.PRIO_PROCESS, 0)
    assert min(seen["engine"]) > seen["loop"]
