"""What `services/shared/bus/repeats.py` asks of the ids that ClickHouse keeps, in-process and on a server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.resources import files

import pytest
import pytest_asyncio
from clickhouse_world import ENGINES, dsn_of, opened

from services.shared.bus.port import Header
from services.shared.bus.recent_ids import RecentIds
from services.shared.clickhouse.client import ClickHouse
from services.shared.clickhouse.ids import StoredIds
from services.shared.clickhouse.migrations import migrate

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = time.time_ns()
MANY = 12_000
ODD = ("it's", 'a "quoted" one', "back\\slash\t{x:String}\n", "요청-1 😀", "%20+&=?", "x" * 128)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def clickhouse(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ClickHouse]:
    async with opened(dsn_of(request.param, request, tmp_path_factory.mktemp("clickhouse"))) as clickhouse:
        await migrate(clickhouse, "metrics", files("services.metrics.store") / "sql")
        yield clickhouse


@pytest.fixture
def ids(clickhouse: ClickHouse) -> StoredIds:
    return StoredIds(clickhouse, "metric_known_ids")


def unary(request_id: str, tenant: str = "default") -> Header:
    return Header(tenant, "test", NOW, 1, request_id=request_id)


def streamed(producer_id: str, sequence: int, tenant: str = "default") -> Header:
    return Header(tenant, "test", NOW, 1, producer_id=producer_id, sequence=sequence)


async def test_stored_requests_are_known_and_others_are_not(ids: StoredIds) -> None:
    await ids.write([unary(name) for name in ODD])
    asked = [*(unary(name) for name in ODD), unary("new"), unary("it's", tenant="other"), unary("it's "), unary("")]
    assert await ids.known_requests(asked) == {("default", name) for name in ODD}


async def test_a_request_and_a_producer_of_the_same_name_are_two(ids: StoredIds) -> None:
    await ids.write([unary("same")])
    assert await ids.highest_sequences({("default", "same")}) == {}
    await ids.write([streamed("same", 3)])
    assert await ids.highest_sequences({("default", "same")}) == {("default", "same"): 3}


async def test_the_highest_sequence_of_a_producer_is_known(ids: StoredIds) -> None:
    for number in (1, 5, 4):
        await ids.write([streamed("line", number), streamed("line", number * 10, "other")])
    asked = {("default", "line"), ("other", "line"), ("default", "unknown")}
    assert await ids.highest_sequences(asked) == {("default", "line"): 5, ("other", "line"): 50}


async def test_as_many_ids_can_be_asked_for_as_an_insert_may_have(ids: StoredIds) -> None:
    headers = [unary(f"{number:0100}", tenant=f"tenant-{number % 3000}") for number in range(MANY)]
    await ids.write(headers[::2])
    assert await ids.known_requests(headers) == {(each.tenant, each.request_id) for each in headers[::2]}


async def test_what_waited_in_the_bus_for_days_is_known_for_a_day_after_it_was_stored(ids: StoredIds) -> None:
    late = replace(unary("late"), received_at=NOW - 3 * 86_400_000_000_000)
    await ids.write([late])
    assert await ids.known_requests([late]) == {("default", "late")}


async def test_ids_of_the_former_table_are_taken_over(clickhouse: ClickHouse, ids: StoredIds) -> None:
    await clickhouse.command(
        "INSERT INTO airis.metric_ingest_ids (tenant, request_id, producer_id, sequence, received_at) VALUES "
        "('테넌트', 'former', '', 0, now64(9)), ('테넌트', '', 'former', 8, now64(9))"
    )
    await clickhouse.command("ALTER TABLE airis.migrations DELETE WHERE number = 2 SETTINGS mutations_sync = 1")
    # Twice does no harm, as after a crash in the middle.
    await migrate(clickhouse, "metrics", files("services.metrics.store") / "sql")
    assert await ids.known_requests([unary("former", "테넌트")]) == {("테넌트", "former")}
    assert await ids.highest_sequences({("테넌트", "former")}) == {("테넌트", "former"): 8}


async def test_they_are_read_back_at_start(clickhouse: ClickHouse) -> None:
    recent = RecentIds(clock=lambda: NOW)
    await StoredIds(clickhouse, "metric_known_ids", max_ids=1000).load(recent)
    assert recent.highest_sequence("default", "line") == 5
    assert len(recent) >= 1000
