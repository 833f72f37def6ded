"""The pure parts of the Kafka bus: headers, boundaries, assignments, inserts, dead letters; and repeated ids."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from fakes.token_store import TokenStore
from hypothesis import given, settings
from hypothesis import strategies as st

from services.shared.bus.adapters import kafka_boundary, kafka_headers
from services.shared.bus.adapters.kafka_assignment import Claim, assign
from services.shared.bus.adapters.kafka_dead_letters import DeadLetter
from services.shared.bus.adapters.kafka_partition import Partition, Record
from services.shared.bus.port import Batch, Header, InsertLimits, Position
from services.shared.bus.repeats import Repeats

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
HEADERS = st.builds(
    Header,
    tenant=TEXT,
    message_type=TEXT,
    received_at=st.integers(-(2**63), 2**63 - 1),
    item_count=st.integers(0, 2**31),
    request_id=TEXT,
    producer_id=TEXT,
    sequence=st.integers(0, 2**63 - 1),
    rejected=st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=20).map(lambda found: tuple(sorted(found))),
)
RAW_HEADERS = st.lists(st.tuples(TEXT, st.binary(max_size=10)), max_size=5)


@given(HEADERS, TEXT, TEXT)
@settings(max_examples=200, deadline=None)
def test_headers_come_back_as_they_were(header: Header, event_id: str, traceparent: str) -> None:
    assert kafka_headers.decode(kafka_headers.encode(header, "airis-test", event_id, traceparent)) == header


@given(
    RAW_HEADERS
    | st.lists(
        st.tuples(
            st.sampled_from(["airis-version", "tenant", "message-type", "received-at", "item-count", "rejected"]),
            st.sampled_from([b"1", b"", b"x", b"\xff"]),
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_headers_of_anybody_are_read_or_refused(headers: Sequence[tuple[str, bytes]]) -> None:
    # Nothing else may come of them.
    with contextlib.suppress(kafka_headers.UnreadableError):
        kafka_headers.decode(headers)


@given(HEADERS, HEADERS)
@settings(max_examples=200, deadline=None)
def test_a_key_tells_senders_apart_and_keeps_one_sender_together(one: Header, other: Header) -> None:
    def sender(header: Header) -> tuple[str, str]:
        return header.tenant, header.request_id or header.producer_id

    if "\0" in one.tenant + other.tenant:
        return
    if sender(one)[1] and sender(other)[1]:
        assert (kafka_headers.key_of(one) == kafka_headers.key_of(other)) == (sender(one) == sender(other))
    assert (kafka_headers.key_of(one) is None) == (not sender(one)[1])


@given(st.integers(0, 2**62), st.integers(0, 2**20))
def test_a_boundary_comes_back_as_it_was(first: int, count: int) -> None:
    assert kafka_boundary.decode(first, kafka_boundary.encode(first + count)) == first + count
    assert kafka_boundary.decode(first, kafka_boundary.encode(None)) is None


@pytest.mark.parametrize("metadata", ["v2 end=7", "v1 end=", "v1 end=-7", "end=7", "v1 end=7 ", "v1 end=4", "v1 end=٧"])
def test_a_boundary_that_this_version_did_not_write_is_no_boundary(metadata: str) -> None:
    with pytest.raises(kafka_boundary.UnknownBoundaryError):
        kafka_boundary.decode(5, metadata)


@given(HEADERS, st.binary(max_size=20), RAW_HEADERS, st.none() | st.binary(max_size=9), TEXT, st.integers(0, 2**62))
@settings(max_examples=100, deadline=None)
def test_dead_letters_come_back_as_they_were(
    header: Header, payload: bytes, foreign: list[tuple[str, bytes]], key: bytes | None, reason: str, offset: int
) -> None:
    own = [each for each in foreign if not each[0].startswith("dlq-")]
    headers = [*kafka_headers.encode(header, "airis-test", "e", ""), *own]
    letter = DeadLetter("airis.test", 3, offset, key, headers, payload, reason)
    assert DeadLetter.decode(letter.encode(), payload) == letter


@given(
    st.integers(1, 16),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.booleans()), max_size=12),
)
@settings(max_examples=150, deadline=None)
def test_partitions_settle_evenly_and_are_never_two_members_at_once(
    partitions: int, changes: list[tuple[bool, int, bool]]
) -> None:
    owned: dict[str, frozenset[int]] = {"m0": frozenset()}
    for joins, number, settles in changes:
        name = f"m{number}"
        if joins:
            owned.setdefault(name, frozenset())
        elif len(owned) > 1:
            owned.pop(name, None)
        for generation in range(4 if settles else 1):
            given_out = assign({member: Claim(generation, its) for member, its in owned.items()}, partitions)
            handed = [partition for its in given_out.values() for partition in its]
            assert len(handed) == len(set(handed))
            for member, its in given_out.items():
                others = frozenset().union(*(had for other, had in owned.items() if other != member))
                # Nobody gets what another has not given up yet.
                assert not its & others
            owned = given_out
        if settles:
            assert frozenset().union(*owned.values()) == frozenset(range(partitions))
            sizes = [len(its) for its in owned.values()]
            assert max(sizes) - min(sizes) <= 1
            assert assign({member: Claim(9, its) for member, its in owned.items()}, partitions) == owned


def test_of_two_that_claim_a_partition_the_newer_generation_is_right() -> None:
    claims = {"old": Claim(3, frozenset({0, 1})), "new": Claim(4, frozenset({0}))}
    assert assign(claims, 2) == {"old": frozenset({1}), "new": frozenset({0})}


def test_a_claim_that_cannot_be_read_claims_nothing() -> None:
    assert Claim.decode(b"\xff{") == Claim.decode(b"[1]") == Claim.decode(b"{}") == Claim()
    assert Claim.decode(Claim(7, frozenset({1, 3})).encode()) == Claim(7, frozenset({1, 3}))


def record(offset: int, items: int, size: int) -> Record:
    return Record(offset, None, (), b"x" * size, Header("t", "m", 1, items), "", 0.0)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=40),
    st.lists(st.integers(1, 10), min_size=1, max_size=10),
)
@settings(max_examples=150, deadline=None)
def test_inserts_keep_to_the_limits_and_repeat_from_their_boundary(
    shapes: list[tuple[int, int, int]], chunks: list[int]
) -> None:
    limits = InsertLimits(max_items=60, max_bytes=60, max_age=1.0)
    records, offset = [], 10
    for gap, items, size in shapes:
        offset += gap
        records.append(record(offset, items, size))
    partition = Partition(0, 10, None, limits)
    seen, at, turn = [], 0, 0
    while at < len(records) or partition.ready_at() is not None:
        for each in records[at : at + chunks[turn % len(chunks)]]:
            partition.offer(each)
        at, turn = at + chunks[turn % len(chunks)], turn + 1
        while partition.is_whole() or (at >= len(records) and partition.ready_at() is not None):
            first, last = partition.first, partition.last()
            its = partition.records(last)
            assert its
            assert len(its) == 1 or (sum(r.items for r in its) <= 60 and sum(len(r.payload) for r in its) <= 60)
            # Whoever repeats it, with other limits and all at once, has the same records.
            repeated = Partition(0, first, last, InsertLimits(max_items=1, max_bytes=1))
            for each in records:
                if each.offset >= first:
                    repeated.offer(each)
            assert repeated.is_whole()
            assert repeated.last() == last
            assert repeated.records(last) == its
            partition.commit(last)
            seen += its
    assert seen == records
    assert partition.buffered_bytes == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.integers(1, 6), st.integers(0, 3)),
        max_size=40,
    ),
    st.lists(st.integers(1, 7), min_size=1),
)
@settings(max_examples=150, deadline=None)
def test_repeats_never_drop_the_first_and_keep_each_id_once(
    arrivals: list[tuple[str, bool, int, int]], sizes: list[int]
) -> None:
    """Sequences of a producer first come in order, each then perhaps again, as its partition has them."""
    headers: list[Header] = []
    highest: dict[tuple[str, str], int] = {}
    for tenant, is_request, number, back in arrivals:
        if is_request:
            headers.append(Header(tenant, "m", 1, 1, request_id=f"r{number}"))
            continue
        producer = (tenant, f"p{number % 2}")
        newest = highest.get(producer, 0)
        sequence = max(1, newest - back) if back else newest + 1
        highest[producer] = max(newest, sequence)
        headers.append(Header(tenant, "m", 1, 1, "", producer[1], sequence))
    headers += [Header("a", "m", 1, 1), Header("a", "m", 1, 1)]

    async def store_all() -> TokenStore:
        store = TokenStore()
        repeats = Repeats[bytes](store)
        at = turn = 0
        while at < len(headers):
            size = sizes[turn % len(sizes)]
            its = [
                (Position(at + place), Batch(header, b"", lambda _, payload: payload))
                for place, header in enumerate(headers[at : at + size], 1)
            ]
            fresh = await repeats.drop(its)
            await store.write([(each.header, b"") for _, each in fresh], f"token {at}")
            at, turn = at + size, turn + 1
        return store

    stored = [header for its in asyncio.run(store_all()).inserts.values() for header in its]
    with_id = [header for header in stored if header.request_id or header.producer_id]
    firsts = list(dict.fromkeys(header for header in headers if header.request_id or header.producer_id))
    assert with_id == firsts
    # Without an id nothing can be told to be a repetition.
    assert len(stored) - len(with_id) == 2
