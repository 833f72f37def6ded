"""What a session keeps until it is settled."""

from __future__ import annotations

import pytest
from airis.client.outbox import Outbox


def filled(count: int, size: int = 10) -> Outbox:
    outbox = Outbox(max_batches=100, max_bytes=10_000)
    for _ in range(count):
        outbox.add(b"x" * size, 2)
    return outbox


def take(outbox: Outbox, batches: int = 100, size: int = 10_000) -> list[int]:
    taken = []
    while (batch := outbox.next_to_send(batches, size)) is not None:
        taken.append(batch.sequence)
    return taken


def test_batches_are_sent_once_in_order_and_leave_when_settled() -> None:
    outbox = filled(3)
    assert take(outbox) == [1, 2, 3]
    assert take(outbox) == []
    assert outbox.settle(2)
    assert not outbox.settle(2)
    assert (outbox.settled_through, outbox.settled_items, outbox.unanswered) == (2, 4, 1)
    assert outbox.settle(3)
    assert outbox.is_empty


def test_after_a_reset_what_is_not_settled_is_sent_again() -> None:
    outbox = filled(4)
    take(outbox)
    outbox.settle(1)
    outbox.send_again_from(0)
    assert take(outbox) == [2, 3, 4]


def test_after_a_throttle_only_the_named_batch_and_later_ones_are_sent_again() -> None:
    outbox = filled(5)
    take(outbox)
    outbox.send_again_from(4)
    assert take(outbox) == [4, 5]
    outbox.settle(3)
    outbox.send_again_from(2)
    assert take(outbox) == [4, 5]


@pytest.mark.parametrize(("batches", "size", "sent"), [(2, 10_000, [1, 2]), (10, 25, [1, 2]), (10, 5, [1])])
def test_the_servers_limits_hold_and_one_batch_is_always_sent(batches: int, size: int, sent: list[int]) -> None:
    assert take(filled(5), batches, size) == sent


def test_room_is_bounded_by_batches_and_bytes_and_one_batch_always_fits() -> None:
    outbox = Outbox(max_batches=2, max_bytes=15)
    assert outbox.has_room(1000)
    outbox.add(b"x" * 10, 1)
    assert not outbox.has_room(6)
    assert outbox.has_room(5)
    outbox.add(b"x" * 5, 1)
    assert not outbox.has_room(0)


def test_sequences_go_on_after_what_the_server_has() -> None:
    outbox = Outbox(10, 1000)
    outbox.begin_after(41)
    outbox.add(b"x", 3)
    assert take(outbox) == [42]
    batch = outbox.find(42)
    assert batch is not None
    assert (batch.item_count, batch.first_item) == (3, 0)
    assert outbox.find(41) is None
    assert outbox.find(43) is None
