"""An insert written in parts: the same lines as in one, in parts that are not too large."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from airis.logs.v1 import logs_pb2

from services.logs import convert
from services.logs.config import LogsConfig
from services.logs.ingest import Checker
from services.logs.model import LogColumns
from services.logs.store.adapters.elasticsearch_documents import Batches, documents, slices
from services.shared.bus.port import Header, Position

NOW = 1_790_000_040_000_000_000
HEADER = Header("default", convert.UNARY, NOW, 1)


def columns(*sizes: int) -> LogColumns:
    entries = [
        logs_pb2.LogEntry(message=f"주문 {row} " + "x" * size, labels={"row": f"{row}"})
        for row, size in enumerate(sizes)
    ]
    for entry in entries:
        entry.timestamp.FromNanoseconds(NOW)
    records = convert.read(convert.UNARY, [logs_pb2.IngestLogsRequest(entries=entries).SerializeToString()]).items
    return Checker(LogsConfig()).check(records, "default", NOW).columns


@pytest.mark.parametrize("most_rows", [1, 2, 3, 7, 100])
def test_an_insert_in_parts_has_the_same_lines_as_in_one(most_rows: int) -> None:
    batches = [(Position(7 + number), HEADER, columns(*[0] * rows)) for number, rows in enumerate([5, 1, 3, 4])]
    parts = list(slices(batches, most_rows, 1_000_000))
    sizes = [sum(each.entries.num_rows for _, _, each in part) for part in parts]
    assert sum(sizes) == 13
    assert set(sizes[:-1]) <= {most_rows}
    assert 0 < sizes[-1] <= most_rows
    assert written(parts) == documents(batches, "airis").lines.to_pylist()


def test_a_part_is_cut_where_its_entries_weigh_too_much() -> None:
    sizes = [[75_000] * 9, [0] * 400, [0] * 20 + [75_000] * 4 + [0] * 20, [0], [250_000], [0] * 3]
    batches = [(Position(7 + number), HEADER, columns(*each)) for number, each in enumerate(sizes)]
    most_bytes = 200_000
    parts = list(slices(batches, 300, most_bytes))
    rows = [sum(each.entries.num_rows for _, _, each in part) for part in parts]
    weights = [sum(each.entries.nbytes for _, _, each in part) for part in parts]
    assert sum(rows) == sum(len(each) for each in sizes)
    assert max(rows) <= 300
    # One that is too large by itself is a part by itself.
    assert [(row, weight > 250_000) for row, weight in zip(rows, weights, strict=True) if weight > most_bytes] == [
        (1, True)
    ]
    # Not smaller than need be: a part and what comes next would have been too much.
    assert rows[:4] == [2, 2, 2, 2]
    assert written(parts) == documents(batches, "airis").lines.to_pylist()


def written(parts: Sequence[Batches]) -> list[str]:
    return [line for part in parts for line in documents(part, "airis").lines.to_pylist()]
