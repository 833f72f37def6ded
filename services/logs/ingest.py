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
from services.logs.model import ENTRY_SCHEMA, Level, LogColumns, Records
from services.shared.bus.ingest import Checked, Ingest, limit_items
from services.shared.bus.port import Header
from services.shared.errors import FieldViolation
from services.shared.retention import accepted_times
from services.shared.text_columns import Mask, are_ids, byte_lengths, longer_than
from services.shared.whole_columns import whole_columns

_MAX_TEXT_BYTES = 256 * 1024
_MAX_SERVICE = 255
_MAX_LABEL_KEY = 255
_MAX_LABEL_VALUE = 4096
_MAX_METADATA = 256
_TIMESTAMP = pa.timestamp("ns", tz="UTC")
_ID_DIGITS = {"trace_id": 32, "span_id": 16}

Violations = dict[int, FieldViolation]
Rule = tuple[Mask, str, str, str]
"""Where a rule is broken, and the field, description and reason of the violation."""


class Checker:
    """Turns decoded entries into the columns of the store.

    Args:
        config: The limits.
    """

    def __init__(self, config: LogsConfig) -> None:
        self._config = config
        self._max_items = config.max_items

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
        column = whole_columns(records.table)
        for mask, field, description, reason in self._rules(column, now_ns):
            if np.count_nonzero(mask):
                for index in column["index"].to_numpy()[mask].tolist():
                    path = f"{records.dialect_field}[{index}].{field}"
                    rejected.setdefault(index, FieldViolation(path, description, reason))
        return Checked(_accept(records, tenant, now_ns, rejected), rejected)

    def columns(self, records: Records, header: Header) -> LogColumns:
        """The columns of a batch that was checked before: nothing is refused anew."""
        return _accept(records, header.tenant, header.received_at, dict.fromkeys(header.rejected))

    def _rules(self, column: dict[str, pa.Array], now_ns: int) -> Iterator[Rule]:
        days = self._config.raw_retention_days
        time = column["time"].fill_null(now_ns).to_numpy()
        oldest, newest = accepted_times(now_ns, days)
        yield (
            (time < oldest) | (time > newest),
            "timestamp",
            f"must not be older than {days} days nor more than one day ahead",
            "TIMESTAMP_OUT_OF_RANGE",
        )
        level = column["level"].to_numpy()
        yield (
            (level < 0) | (level > max(Level)),
            "level",
            f"must be one of {', '.join(level.name for level in Level)}",
            "UNKNOWN_ENUM_VALUE",
        )
        yield byte_lengths(column["message"]) == 0, "message", "must not be empty", "INVALID_FIELD"
        for name in ("message", "stack_trace"):
            yield (
                byte_lengths(column[name]) > _MAX_TEXT_BYTES,
                name,
                f"must have at most {_MAX_TEXT_BYTES} bytes",
                "SIZE_LIMIT_EXCEEDED",
            )
        yield (
            longer_than(column["service"], _MAX_SERVICE),
            "service",
            f"must have at most {_MAX_SERVICE} characters",
            "SIZE_LIMIT_EXCEEDED",
        )
        for name, digits in _ID_DIGITS.items():
            ids = column[name]
            present = byte_lengths(ids) > 0
            yield (
                present & ~are_ids(ids, digits) if np.count_nonzero(present) else present,
                name,
                f"must be {digits} hex digits that are not all 0, or empty",
                "INVALID_ID",
            )
        yield (
            ~np.isfinite(column["duration_ms"].to_numpy()),
            "duration_ms",
            "must be a finite number",
            "NON_FINITE_VALUE",
        )
        yield from self._label_rules(column["labels"])
        yield (
            column["metadata_count"].to_numpy() > _MAX_METADATA,
            "metadata",
            f"must have at most {_MAX_METADATA} keys",
            "LABEL_LIMIT_EXCEEDED",
        )

    def _label_rules(self, labels: pa.MapArray) -> Iterator[Rule]:
        offsets = labels.offsets.to_numpy()
        most = self._config.max_labels
        yield (
            offsets[1:] - offsets[:-1] > most,
            "labels",
            f"must have at most {most} entries",
            "LABEL_LIMIT_EXCEEDED",
        )
        yield (
            _owners(offsets, (byte_lengths(labels.keys) == 0) | longer_than(labels.keys, _MAX_LABEL_KEY)),
            "labels",
            f"keys must have 1 to {_MAX_LABEL_KEY} characters",
            "LABEL_LIMIT_EXCEEDED",
        )
        yield (
            _owners(offsets, longer_than(labels.items, _MAX_LABEL_VALUE)),
            "labels",
            f"values must have at most {_MAX_LABEL_VALUE} characters",
            "LABEL_LIMIT_EXCEEDED",
        )


def _owners(offsets: np.ndarray[Any, np.dtype[np.int32]], wrong: Mask) -> Mask:
    """The items that have one of the wrong entries."""
    mask = np.zeros(len(offsets) - 1, bool)
    if np.count_nonzero(wrong):
        # What a slice does not show stands before the first or behind the last.
        entries = np.flatnonzero(wrong[offsets[0] : offsets[-1]]) + offsets[0]
        mask[np.searchsorted(offsets, entries, side="right") - 1] = True
    return mask


def _accept(records: Records, tenant: str, now_ns: int, rejected: dict[int, Any]) -> LogColumns:
    table = records.table
    if rejected:
        table = table.filter(pc.invert(pc.is_in(table.column("index"), pa.array(list(rejected), pa.int32()))))
    column = whole_columns(table)
    level = column["level"].to_numpy()
    columns = {
        **column,
        "tenant": pa.repeat(tenant, table.num_rows),
        "timestamp": column["time"].fill_null(now_ns).view(_TIMESTAMP),
        "level": pa.array(np.where(level == 0, int(Level.INFO), level).astype(np.uint8)),
        **{name: pc.ascii_lower(column[name]) for name in _ID_DIGITS},
    }
    arrays = [
        columns[field.name] if columns[field.name].type == field.type else columns[field.name].cast(field.type)
        for field in ENTRY_SCHEMA
    ]
    return LogColumns(pa.Table.from_arrays(arrays, schema=ENTRY_SCHEMA))


LogIngest = Ingest[Records, LogColumns]
