"""A repeated insert whose rows cannot be looked for is repeated as long as that may pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from services.shared.clickhouse import inserts
from services.shared.clickhouse.inserts import Inserts, Source
from services.shared.errors import AirisError, DeadlineExceededError, PermissionDeniedError, ResourceExhaustedError

SOURCE = Source("samples", "series_id", "timestamp")
OTHER = Source("distributions", "series_id", "timestamp")
ROWS = pa.table({"series_id": [1]})


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each look raises."""
    wrong: dict[str, Any] = {"error": None, "looks": 0}

    async def mend(self: object, rows: pa.Table) -> None:
        wrong["looks"] += 1
        if wrong["error"] is not None:
            raise wrong["error"]

    monkeypatch.setattr(inserts._Repetition, "mend", mend)
    return wrong


def made(clock: _Clock) -> Inserts:
    async def insert(table: str, rows: pa.Table, token: str) -> None:
        pass

    clickhouse: Any = SimpleNamespace(insert=insert, layout=SimpleNamespace(cluster=""))
    return Inserts(clickhouse, 90, clock=clock)


@pytest.mark.parametrize("error", [ResourceExhaustedError("no memory"), DeadlineExceededError("too slow")])
async def test_want_of_memory_or_time_is_waited_for_by_the_bus(fault: dict[str, Any], error: AirisError) -> None:
    clock = _Clock()
    store = made(clock)
    fault["error"] = error
    for seconds in (0, 100, 299):
        clock.now = seconds
        with pytest.raises(type(error)):
            await store.store(SOURCE, ROWS, "a", True)
    fault["error"] = None
    await store.store(SOURCE, ROWS, "a", True)
    assert fault["looks"] == 4


async def test_after_minutes_it_no_longer_holds_up_what_comes_after_it(fault: dict[str, Any]) -> None:
    clock = _Clock()
    store = made(clock)
    fault["error"] = ResourceExhaustedError("no memory")
    with pytest.raises(ResourceExhaustedError):
        await store.store(SOURCE, ROWS, "a", True)
    clock.now = 300
    await store.store(SOURCE, ROWS, "a", True)
    # Another insert is waited for anew.
    with pytest.raises(ResourceExhaustedError):
        await store.store(SOURCE, ROWS, "b", True)


async def test_what_will_not_pass_holds_nothing_up(fault: dict[str, Any]) -> None:
    fault["error"] = PermissionDeniedError("no right to make tables")
    await made(_Clock()).store(SOURCE, ROWS, "a", True)
    assert fault["looks"] == 3


async def test_each_table_of_an_insert_is_waited_for_as_long(fault: dict[str, Any]) -> None:
    clock = _Clock()
    store = made(clock)
    fault["error"] = ResourceExhaustedError("no memory")
    with pytest.raises(ResourceExhaustedError):
        await store.store(SOURCE, ROWS, "a", True)
    for seconds in (300, 599):
        clock.now = seconds
        await store.store(SOURCE, ROWS, "a", True)
        with pytest.raises(ResourceExhaustedError):
            await store.store(OTHER, ROWS, "a", True)
    clock.now = 600
    await store.store(SOURCE, ROWS, "a", True)
    await store.store(OTHER, ROWS, "a", True)


async def test_after_a_look_that_succeeded_it_is_waited_anew(fault: dict[str, Any]) -> None:
    clock = _Clock()
    store = made(clock)
    for seconds in (0, 300):
        clock.now = seconds
        fault["error"] = ResourceExhaustedError("no memory")
        with pytest.raises(ResourceExhaustedError):
            await store.store(SOURCE, ROWS, "a", True)
        fault["error"] = None
        await store.store(SOURCE, ROWS, "a", True)
