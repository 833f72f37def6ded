"""What comes in: check columns, publish, acknowledge.

All entries are checked at once, rule by rule. Only refused ones are looked at one by one, to word what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.logs.config import LogsConfig
from services.logs.model import ENTRY_SCHEMA, MAX_ROWS, METADATA_COLUMNS, PLAIN_COLUMNS, Level, LogColumns, Records
from services.shared.bus.ingest import Checked, Ingest, limit_items
from services.shared.bus.port import Header
from services.shared.errors import FieldViolation

_DAY_NS = 86_400 * 1_000_000_000
_MAX_TEXT_BYTES = 256 * 1024
_MAX_SERVICE = 255
_MAX_LABEL_KEY = 255
_MAX_LABEL_VALUE = 4096
_MAX_METADATA = 256
_ID_DIGITS = {"trace_id": 32, "span_id": 16}

Violations = dict[int, FieldViolation]
Mask = Any
"""bool[n]: where a rule is broken."""


class Checker:
    """Turns decoded entries into the columns of the store.

    Args:
        config: The limits.
    """

    def __init__(self, config: LogsConfig) -> None:
        self._config = config
        self._max_items = min(config.max_items, MAX_ROWS)

    def check(self, records: Records, tenant: str, now_ns: int) -> Checked[LogColumns]:
        """Splits entries into accepted columns and refused indices.

        Args:
            records: Decoded entries.
            tenant: Whose they are.
            now_ns: The moment of receipt; an entry without a time gets it.

        Raises:
            InvalidArgumentError: There are more entries than a request may have.
        """
        limit_items(records, self._max_items, "entries")
        rejected: Violations = {}
        for mask, field, description, reason in self._rules(records.table, now_ns):
            if pc.any(mask).as_py():
                for index in records.table.column("index").filter(mask).to_pylist():
                    path = f"{records.dialect_field}[{index}].{field}"
                    rejected.setdefault(index, FieldViolation(path, description, reason))
        return Checked(_accept(records, tenant, now_ns, rejected), rejected)

    def columns(self, records: Records, header: Header) -> LogColumns:
        """The columns of a batch that was checked before: nothing is refused anew."""
        return _accept(records, header.tenant, header.received_at, dict.fromkeys(header.rejected))

    def _rules(self, table: pa.Table, now_ns: int) -> Iterator[tuple[Mask, str, str, str]]:
        """For each rule: where it is broken, and the field, description and reason of the violation."""
        time = table.column("time")
        days = self._config.raw_retention_days
        yield (
            pc.or_(pc.less(time, now_ns - days * _DAY_NS), pc.greater(time, now_ns + _DAY_NS)),
            "timestamp",
            f"must not be older than {days} days nor more than one day ahead",
            "TIMESTAMP_OUT_OF_RANGE",
        )
        level = table.column("level")
        yield (
            pc.or_(pc.less(level, 0), pc.greater(level, max(Level))),
            "level",
            f"must be one of {', '.join(level.name for level in Level)}",
            "UNKNOWN_ENUM_VALUE",
        )
        message = table.column("message")
        yield pc.equal(message, ""), "message", "must not be empty", "INVALID_FIELD"
        for name in ("message", "stack_trace"):
            yield (
                pc.greater(pc.binary_length(table.column(name)), _MAX_TEXT_BYTES),
                name,
                f"must have at most {_MAX_TEXT_BYTES} bytes",
                "SIZE_LIMIT_EXCEEDED",
            )
        yield (
            pc.greater(pc.utf8_length(table.column("service")), _MAX_SERVICE),
            "service",
            f"must have at most {_MAX_SERVICE} characters",
            "SIZE_LIMIT_EXCEEDED",
        )
        for name, digits in _ID_DIGITS.items():
            ids = table.column(name)
            fits = pc.and_(pc.match_substring_regex(ids, f"^[0-9a-fA-F]{{{digits}}}$"), pc.not_equal(ids, "0" * digits))
            yield (
                pc.and_(pc.not_equal(ids, ""), pc.invert(fits)),
                name,
                f"must be {digits} hex digits that are not all 0, or empty",
                "INVALID_ID",
            )
        yield (
            pc.invert(pc.is_finite(table.column("duration_ms"))),
            "duration_ms",
            "must be a finite number",
            "NON_FINITE_VALUE",
        )
        yield from self._label_rules(table.column("labels"))
        yield (
            pc.greater(table.column("metadata_count"), _MAX_METADATA),
            "metadata",
            f"must have at most {_MAX_METADATA} keys",
            "LABEL_LIMIT_EXCEEDED",
        )

    def _label_rules(self, column: pa.ChunkedArray) -> Iterator[tuple[Mask, str, str, str]]:
        for labels in column.chunks[:1]:
            offsets = labels.offsets.to_numpy()
            most = self._config.max_labels
            yield (
                pa.array(np.diff(offsets) > most),
                "labels",
                f"must have at most {most} entries",
                "LABEL_LIMIT_EXCEEDED",
            )
            key_length, value_length = pc.utf8_length(labels.keys), pc.utf8_length(labels.items)
            yield (
                _owners(offsets, pc.or_(pc.less(key_length, 1), pc.greater(key_length, _MAX_LABEL_KEY))),
                "labels",
                f"keys must have 1 to {_MAX_LABEL_KEY} characters",
                "LABEL_LIMIT_EXCEEDED",
            )
            yield (
                _owners(offsets, pc.greater(value_length, _MAX_LABEL_VALUE)),
                "labels",
                f"values must have at most {_MAX_LABEL_VALUE} characters",
                "LABEL_LIMIT_EXCEEDED",
            )


def _owners(offsets: np.ndarray[Any, np.dtype[np.int32]], wrong: pa.Array) -> pa.Array:
    """The items that have one of the wrong entries."""
    mask = np.zeros(len(offsets) - 1, bool)
    entries = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    mask[np.searchsorted(offsets, entries, side="right") - 1] = True
    return pa.array(mask)


def _accept(records: Records, tenant: str, now_ns: int, rejected: dict[int, Any]) -> LogColumns:
    table = records.table
    if rejected:
        table = table.filter(pc.invert(pc.is_in(table.column("index"), pa.array(list(rejected), pa.int32()))))
    level = table.column("level")
    columns = {
        "tenant": pa.repeat(tenant, table.num_rows),
        "timestamp": table.column("time").fill_null(now_ns).cast(pa.timestamp("ns", tz="UTC")),
        "level": pc.if_else(pc.equal(level, 0), pa.scalar(int(Level.INFO), pa.int32()), level).cast(pa.uint8()),
    }
    for name in (*PLAIN_COLUMNS, "labels", *METADATA_COLUMNS, "index"):
        columns[name] = table.column(name)
    for name in _ID_DIGITS:
        columns[name] = pc.ascii_lower(columns[name])
    arrays = [columns[field.name].cast(field.type) for field in ENTRY_SCHEMA]
    return LogColumns(pa.Table.from_arrays(arrays, schema=ENTRY_SCHEMA))


LogIngest = Ingest[Records, LogColumns]
