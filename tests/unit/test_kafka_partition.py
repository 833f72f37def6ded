"""What a partition of Kafka counts of what was read ahead, and when it need not be read on; headers out of range."""

from __future__ import annotations

import tracemalloc
import uuid

import pytest

from services.shared.bus.adapters import kafka_headers
from services.shared.bus.adapters.kafka_partition import Partition, Record
from services.shared.bus.port import Header, InsertLimits

LIMITS = InsertLimits(max_items=10, max_bytes=1 << 30, max_age=1.0)


def received(offset: int, rejected: tuple[int, ...] = ()) -> Record:
    """A record with objects of its own, as those have that come from a broker."""
    sent = Header("default", "airis.test.v1.Batch", 10**18 + offset, 1, f"request-{offset:030d}", rejected=rejected)
    trace = f"00-{uuid.uuid4().hex}-b7ad6b7169203331-01"
    encoded = kafka_headers.encode(sent, "airis-test", uuid.uuid4().hex, trace)
    headers = tuple((name.encode().decode(), bytes(bytearray(value))) for name, value in encoded)
    key = kafka_headers.key_of(sent)
    return Record(offset, key, headers, bytes(200), kafka_headers.decode(headers), "", float(offset))


@pytest.mark.parametrize("rejected", [(), tuple(range(1_000, 1_500))])
def test_small_records_count_with_the_objects_that_they_are_made_of(rejected: tuple[int, ...]) -> None:
    partition = Partition(0, 0, None, LIMITS)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for offset in range(500):
            partition.offer(received(offset, rejected))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert partition.buffered_bytes == 500 * 200
    assert 0.9 * taken < partition.memory < 1.5 * taken
    while partition.ready_at() is not None:
        partition.commit(partition.last())
    assert partition.memory == partition.buffered_bytes == 0


def test_a_partition_whose_insert_may_end_where_it_is_waits_once_all_have_read_enough() -> None:
    partition = Partition(0, 0, None, LIMITS)
    partition.offer(received(0))
    assert not partition.may_wait(has_share=True, is_full=False)
    assert partition.may_wait(has_share=False, is_full=True)
    # It does not wait for ever: its insert ends here when its time has come.
    assert partition.ready_at() == LIMITS.max_age


def test_a_partition_with_an_insert_to_repeat_is_read_until_all_of_it_is_there() -> None:
    partition = Partition(0, 0, 2, LIMITS)
    for offset in range(2):
        partition.offer(received(offset))
        assert not partition.may_wait(has_share=True, is_full=True)
    partition.offer(received(2))
    assert partition.may_wait(has_share=True, is_full=False)
    assert partition.may_wait(has_share=False, is_full=True)


def test_a_partition_with_its_share_waits_once_its_insert_is_whole() -> None:
    partition = Partition(0, 0, None, LIMITS)
    for offset in range(9):
        partition.offer(received(offset))
    assert not partition.may_wait(has_share=True, is_full=False)
    partition.offer(received(9))
    assert partition.may_wait(has_share=True, is_full=False)
    assert not partition.may_wait(has_share=False, is_full=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sequence", b"9" * 25),
        ("sequence", str(2**63).encode()),
        ("sequence", b"-1"),
        ("item-count", b"-1"),
        ("item-count", str(2**32).encode()),
        ("received-at", str(2**63).encode()),
        ("received-at", str(-(2**63) - 1).encode()),
        ("received-at", b"9" * 5_000),
        # Kafka's headers may have no value.
        ("sequence", None),
        ("item-count", None),
        ("airis-version", None),
    ],
)
def test_a_number_that_no_store_has_room_for_makes_a_record_unreadable(name: str, value: bytes | None) -> None:
    sent = Header("default", "airis.test.v1.Batch", 1, 1, producer_id="p", sequence=5)
    headers = [each for each in kafka_headers.encode(sent, "airis-test", "e", "") if each[0] != name]
    with pytest.raises(kafka_headers.UnreadableError):
        kafka_headers.decode([*headers, (name, value)])  # type: ignore[list-item]


def test_headers_of_anybody_without_a_value_are_counted_and_passed_over() -> None:
    sent = Header("default", "airis.test.v1.Batch", 1, 1, producer_id="p", sequence=5)
    headers = [*kafka_headers.encode(sent, "airis-test", "e", ""), ("theirs", None)]
    assert kafka_headers.decode(headers) == sent  # type: ignore[arg-type]
    partition = Partition(0, 0, None, LIMITS)
    partition.offer(Record(0, None, headers, b"", sent, "", 0.0))  # type: ignore[arg-type]
    assert partition.memory > 0
