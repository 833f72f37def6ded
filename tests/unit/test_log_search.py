"""How much a search reads for an answer that is bounded in bytes, and what it looks for in that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from airis.logs.v1 import logs_pb2

from services.logs import patterns
from services.logs import query as log_query
from services.logs.model import Capabilities, Level, LogEntry, Pattern, Sample, SearchQuery, Selection, Span
from services.logs.query import LogQuery
from services.logs.rpc import LogServicer
from services.shared.errors import DeadlineExceededError
from services.shared.filter import Checked, Term, find_highlights

NOW = 1_790_000_000_000_000_000
LARGE = 200 * 1024
ANSWER = 3 * 1024 * 1024


class CountingReader:
    """A store with some entries, the newest first, that notes how many it is asked for."""

    def __init__(self, sizes: list[int]) -> None:
        self.asked: list[int] = []
        self.read = 0
        self._entries = [entry(NOW - 1 - at // 2, len(sizes) - at, size) for at, size in enumerate(sizes)]

    def capabilities(self) -> Capabilities:
        return Capabilities(full_text=True)

    async def search(self, query: SearchQuery, condition: Checked | None, timeout: float) -> list[LogEntry]:
        self.asked.append(query.limit)
        after = query.after
        behind = [
            each
            for each in self._entries
            if after is None or (each.timestamp, each.ingest_position) < (after.timestamp, after.ingest_position)
        ]
        self.read += len(behind[: query.limit])
        return behind[: query.limit]

    async def sample(self, selection: Selection, condition: Checked | None, limit: int, timeout: float) -> list[Sample]:
        return [Sample(each.message, each.level, each.service) for each in self._entries[:limit]]


def entry(timestamp: int, position: int, size: int) -> LogEntry:
    message = "word " + "x" * (size - 5)
    texts = dict.fromkeys(("service", "trace_id", "span_id", "stack_trace", "user_id", "request_id", "url"), "")
    return LogEntry(
        position, timestamp, Level.INFO, message, labels={}, metadata={}, metadata_encoded={}, duration_ms=0.0,
        status_code=0, method="", **texts,
    )  # fmt: skip


async def pages_of(reader: CountingReader, page_size: int) -> list[logs_pb2.SearchLogsResponse]:
    servicer = LogServicer(None, LogQuery(reader), None, lambda: NOW)  # type: ignore[arg-type]
    request = logs_pb2.SearchLogsRequest(filter="word", page_size=page_size)
    pages = []
    while not pages or request.page_token:
        pages.append(await servicer.SearchLogs(request, None))
        request.page_token = pages[-1].next_page_token
    return pages


def positions(pages: list[logs_pb2.SearchLogsResponse]) -> list[int]:
    return [int(each.id, 16) for page in pages for each in page.entries]


@pytest.mark.parametrize(
    ("stored", "page_size", "asked"),
    [
        (99, 99, [100]),
        (99, 0, [51, 51]),
        (7, 3, [4, 4, 4]),
        (0, 0, [51]),
        # What is behind the first hundred in one go.
        (1000, 1000, [100, 901]),
        (100, 100, [100, 1]),
        (101, 100, [100, 1, 100]),
    ],
)
async def test_small_entries_are_read_at_once(stored: int, page_size: int, asked: list[int]) -> None:
    reader = CountingReader([100] * stored)
    pages = await pages_of(reader, page_size)
    assert positions(pages) == list(range(stored, 0, -1))
    assert all(len(page.entries) == (page_size or 50) for page in pages[:-1])
    assert reader.asked == asked


async def test_of_large_entries_few_more_are_read_than_an_answer_holds() -> None:
    reader = CountingReader([LARGE] * 60)
    pages = await pages_of(reader, 1000)
    assert positions(pages) == list(range(60, 0, -1))
    assert [len(page.entries) for page in pages] == [15] * 4
    assert reader.asked == [100] * 4


async def test_entries_of_middling_size_are_read_as_they_fit() -> None:
    reader = CountingReader([20 * 1024] * 400)
    pages = await pages_of(reader, 1000)
    assert positions(pages) == list(range(400, 0, -1))
    assert reader.read < 1.3 * 400
    assert len(reader.asked) < 4 * len(pages)


async def test_small_entries_behind_large_ones_are_not_read_a_few_at_a_time() -> None:
    reader = CountingReader([ANSWER // 104] * 100 + [20] * 600)
    (page,) = await pages_of(reader, 1000)
    assert len(page.entries) == 700
    assert len(reader.asked) < 6


async def test_an_entry_that_is_larger_than_any_answer_stands_alone() -> None:
    reader = CountingReader([10, 2 * ANSWER, 10])
    pages = await pages_of(reader, 10)
    assert [len(page.entries) for page in pages] == [1, 1, 1]


async def test_words_are_looked_for_only_in_what_leaves_and_beside_everything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_in: list[int] = []

    def noting(text: str, terms: list[Term], most: int) -> list[Span]:
        assert threading.current_thread() is not threading.main_thread()
        looked_in.append(len(text))
        return find_highlights(text, terms, most)

    monkeypatch.setattr(log_query, "find_highlights", noting)
    reader = CountingReader([LARGE] * 15 + [LARGE + 1] * 40)
    servicer = LogServicer(None, LogQuery(reader), None, lambda: NOW)  # type: ignore[arg-type]
    page = await servicer.SearchLogs(logs_pb2.SearchLogsRequest(filter="word"), None)
    assert looked_in == [LARGE] * len(page.entries)
    assert [[(each.start, each.end) for each in spans.highlights] for spans in page.highlights] == [[(0, 4)]] * 15


async def test_at_most_a_hundred_matches_of_a_message_are_highlighted() -> None:
    found = replace(entry(NOW, 1, 5), message="word " * 5000)
    (spans,) = await LogQuery(CountingReader([])).highlights([found], [Term("word")], 30)
    assert spans == [(at, at + 4) for at in range(0, 500, 5)]


async def test_words_are_not_looked_for_when_nobody_waits_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + 0.05
    looked_in: list[str] = []

    def until_the_deadline(text: str, *_: object) -> list[Span]:
        looked_in.append(text)
        while loop.time() <= ends_at + 0.05:
            pass
        return []

    monkeypatch.setattr(log_query, "find_highlights", until_the_deadline)
    with pytest.raises(DeadlineExceededError, match="fewer words"):
        await LogQuery(CountingReader([])).highlights([entry(NOW, 1, 5)] * 3, [Term("word")], 0.05)
    assert len(looked_in) == 1


async def test_the_search_for_patterns_ends_with_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def endless(samples: Sequence[Sample], is_over: Callable[[], bool]) -> list[Pattern]:
        while not is_over():
            pass
        ended.set()
        return []

    monkeypatch.setattr(patterns, "mine", endless)
    query = LogQuery(CountingReader([10]))  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceededError):
        await query.patterns(Selection("default", "", 0, NOW), 0.05)
    assert ended.wait(5)
