"""The journal's process is killed at every step: what was acknowledged is stored once, inserts repeat identically.

Run as a program, this file is the process that gets killed: it publishes, consumes, and says on its standard
output what it did.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from services.shared.bus.adapters.journal import CRASH_POINTS, Journal
from services.shared.bus.port import Batch, Header, Insert, InsertLimits

PUBLISHERS = 6
BATCHES = 40
ROOT = Path(__file__).parents[2]


def decode(header: Header, payload: bytes) -> bytes:
    return payload


def say(*words: object) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def names(insert: Insert[bytes]) -> list[str]:
    return [batch.header.request_id for _, batch in insert.batches]


def open_journal(directory: str, crash_point: str = "", hits: int = 0) -> Journal[bytes]:
    left = hits

    def crash(name: str) -> None:
        nonlocal left
        if name == crash_point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    limits = InsertLimits(max_items=7, max_age=0.001)
    return Journal(Path(directory), decode, limits=limits, segment_bytes=3_000, crash_point=crash)


async def live_until_killed(directory: str, round_name: str, crash_point: str, hits: int) -> None:
    journal = open_journal(directory, crash_point, hits)
    await journal.open()

    async def publish(publisher: int) -> None:
        for number in range(BATCHES):
            name = f"{round_name}-{publisher}-{number}"
            await journal.publish(Batch(Header("default", "m", 1, 1, name), name.encode() * 20, decode))
            say("acknowledged", name)

    async def consume() -> None:
        while True:
            insert = await journal.next_insert()
            say("insert", insert.token, names(insert))
            await journal.commit(insert)
            say("committed", insert.last)

    await asyncio.gather(consume(), *(publish(number) for number in range(PUBLISHERS)))


@pytest.mark.parametrize("crash_point", CRASH_POINTS)
async def test_killed_at_any_step_nothing_acknowledged_is_lost_or_stored_twice(
    crash_point: str, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    store: dict[str, list[str]] = {}  # by token, as a store that recognizes tokens
    committed = 0
    for round_name, hits in (("first", 5), ("second", 2)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, str(tmp_path), round_name, crash_point, str(hits)),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == -signal.SIGKILL
        for line in output.splitlines():
            match json.loads(line):
                case ["acknowledged", name]:
                    acknowledged.append(name)
                case ["insert", token, content]:
                    assert store.setdefault(token, content) == content
                case ["committed", last]:
                    assert last > committed
                    committed = last
    journal = open_journal(str(tmp_path))
    await journal.open()
    before = (await journal.committed())[0]
    assert before >= committed
    last = before + len(journal.uncommitted())
    while (await journal.committed())[0] < last:
        insert = await journal.next_insert()
        assert store.setdefault(insert.token, names(insert)) == names(insert)
        await journal.commit(insert)
    await journal.close()
    stored = Counter(name for content in store.values() for name in content)
    assert set(stored.values()) == {1}
    assert set(acknowledged) <= stored.keys()
    assert sum(stored.values()) == last


if __name__ == "__main__":
    directory, round_name, crash_point, hits = sys.argv[1:]
    asyncio.run(live_until_killed(directory, round_name, crash_point, int(hits)))
