"""The domain types of logs. No I/O, no protobuf. Times in nanoseconds since 1970, ends excluded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.filter import Term
from services.shared.parts import parts_of


class Level(IntEnum):
    """How serious an entry is; the numbers are those of `airis.logs.v1.LogEntry.Level`."""

    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4
    FATAL = 5


METADATA_COLUMNS = (
    "metadata_string",
    "metadata_int64",
    "metadata_double",
    "metadata_bool",
    "metadata_encoded",
)
PLAIN_COLUMNS = (
    "message",
    "service",
    "trace_id",
    "span_id",
    "stack_trace",
    "user_id",
    "request_id",
    "duration_ms",
    "status_code",
    "url",
    "method",
)

_TYPES = {"duration_ms": pa.float64(), "status_code": pa.int32()}
_TEXT_MAP = pa.map_(pa.string(), pa.string())
ENTRY_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string()),
        pa.field("timestamp", pa.timestamp("ns", tz="UTC")),
        pa.field("level", pa.uint8()),
        *(pa.field(name, _TYPES.get(name, pa.string())) for name in PLAIN_COLUMNS),
        pa.field("labels", _TEXT_MAP),
        pa.field("metadata_string", _TEXT_MAP),
        pa.field("metadata_int64", pa.map_(pa.string(), pa.int64())),
        pa.field("metadata_double", pa.map_(pa.string(), pa.float64())),
        pa.field("metadata_bool", pa.map_(pa.string(), pa.bool_())),
        pa.field("metadata_encoded", _TEXT_MAP),
        pa.field("index", pa.int32()),
    ]
)

MAX_ROWS = 2**18
"""Entries that one batch can number: `ingest_position` keeps the row in its lowest 18 bits, the position above them."""


@dataclass(frozen=True, slots=True)
class Records:
    """Decoded entries, before any check.

    Attributes:
        table: The columns

            index           int32   the item's place in the request
            time            int64   null where absent
            level           int32   0 where absent
            `PLAIN_COLUMNS` string, but duration_ms double and status_code int32
            labels          map<string, string>
            metadata_count  int32
            `METADATA_COLUMNS` one map a type; `metadata_encoded` holds OTLP/JSON of what has no map of its own

        dialect_field: How a violation names item i: "entries" gives `entries[i]`.
    """

    table: pa.Table
    dialect_field: str

    @property
    def count(self) -> int:
        """The number of entries."""
        return int(self.table.num_rows)

    @property
    def need_now(self) -> bool:
        """See `Items.need_now`."""
        return bool(self.table.column("time").null_count)


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Accepted entries as the store takes them.

    Attributes:
        entries: `ENTRY_SCHEMA`; index is the item's place in its request.
    """

    entries: pa.Table

    @property
    def count(self) -> int:
        """The number of entries."""
        return int(self.entries.num_rows)

    def split(self, items: Records, ends: np.ndarray[Any, np.dtype[np.int64]]) -> list[LogColumns]:
        """See `Columns.split`."""
        at = self.entries.schema.get_field_index("index")
        field = self.entries.schema.field(at)
        parts = []
        for part, begin in parts_of(self.entries, ends):
            own = pc.subtract(part.column(at), pa.scalar(begin, field.type))
            parts.append(LogColumns(part.set_column(at, field, own)))
        return parts


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A stored entry.

    Attributes:
        ingest_position: Where it stands in the order of ingest; names it.
        metadata: Texts, integers, doubles and booleans.
        metadata_encoded: The rest: OTLP/JSON of an AnyValue.
    """

    ingest_position: int
    timestamp: int
    level: Level
    message: str
    service: str
    trace_id: str
    span_id: str
    labels: dict[str, str]
    metadata: dict[str, str | int | float | bool]
    metadata_encoded: dict[str, str]
    stack_trace: str
    user_id: str
    request_id: str
    duration_ms: float
    status_code: int
    url: str
    method: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries: a filter's text, empty for all, and a range."""

    tenant: str
    filter: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last entry of a page."""

    timestamp: int
    ingest_position: int


Arrived = tuple[int, int]
"""A part of the order of ingest: behind one `ingest_position` and up to another."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """Entries of a selection by time, then by order of ingest.

    Attributes:
        after: Begin behind this entry; None: at the beginning.
        arrived: Only entries that came in these ranges; None: all.
    """

    selection: Selection
    newest_first: bool
    limit: int
    after: Cursor | None = None
    arrived: tuple[Arrived, ...] | None = None


Span = tuple[int, int]
"""A matched part of a text: start and end in code points, end excluded."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Entries, and the words of the filter that `LogQuery.highlights` finds in their messages."""

    entries: Sequence[LogEntry]
    terms: Sequence[Term]


@dataclass(frozen=True, slots=True)
class CountQuery:
    """How many entries a selection has, in buckets of `step` nanoseconds since 1970; 0: choose the width."""

    selection: Selection
    step: int
    group_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountGroup:
    """The entries of one group. `buckets` has the start and count of each that is not empty, in order."""

    fields: dict[str, str]
    count: int
    buckets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Counts:
    """The largest groups, the largest first, and the count over all."""

    groups: list[CountGroup]
    total: int
    step: int


@dataclass(frozen=True, slots=True)
class Sample:
    """What patterns are made from."""

    message: str
    level: Level
    service: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """A template that messages fall into; `<*>` stands where they differ."""

    template: str
    count: int
    example: str
    max_level: Level
    services: list[str]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A step in which a service logged an unusual number of entries of a level; `score` below 0 is too few."""

    timestamp: int
    service: str
    level: Level
    count: int
    expected_count: float
    score: float


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a log store can do. The zero value is the least capable.

    Attributes:
        full_text: It finds words and phrases.
        tail: It gives entries by their order of ingest.
        fine_counts: It counts in steps that are not whole milliseconds.
    """

    full_text: bool = False
    tail: bool = False
    fine_counts: bool = False
