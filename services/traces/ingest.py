"""What comes in: check columns, publish, acknowledge.

Every rule is checked for all spans at once (`rules.py`); only refused spans are looked at one by one, to word what
is wrong with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.shared.bus.ingest import Checked, Ingest, limit_items
from services.shared.bus.port import Header
from services.shared.errors import FieldViolation
from services.shared.whole_columns import whole_columns
from services.traces import rules
from services.traces.config import TracesConfig
from services.traces.model import SpanColumns, Spans

Violations = dict[int, FieldViolation]

_TIMESTAMP = pa.timestamp("ns", tz="UTC")
_AS_THEY_ARE = (
    "service",
    "operation",
    "status_message",
    "tag_string",
    "tag_int64",
    "tag_double",
    "tag_bool",
    "tag_encoded",
    "event_time",
    "event_fields",
    "link_tags",
)


class Checker:
    """Turns decoded spans into the columns of the store.

    Args:
        config: The limits.
    """

    def __init__(self, config: TracesConfig) -> None:
        self._config = config

    def check(self, spans: Spans, tenant: str, now_ns: int) -> Checked[SpanColumns]:
        """Splits spans into accepted columns and refused indices.

        Args:
            spans: Decoded spans.
            tenant: Whose they are.
            now_ns: The moment of receipt.

        Raises:
            InvalidArgumentError: There are more spans than a request may have.
        """
        limit_items(spans, self._config.max_items, "spans")
        rejected: Violations = {}
        for violation, indices in rules.violations(spans.table, self._config.raw_retention_days, now_ns):
            for index in indices:
                field = f"{spans.dialect_field}[{index}].{violation.field}"
                rejected.setdefault(index, replace(violation, field=field))
        return Checked(_accept(spans.table, tenant, rejected), rejected)

    def columns(self, spans: Spans, header: Header) -> SpanColumns:
        """The columns of a batch that was checked before: nothing is refused anew."""
        return _accept(spans.table, header.tenant, header.rejected)


def _accept(table: pa.Table, tenant: str, rejected: Any) -> SpanColumns:
    if rejected:
        table = table.filter(pc.invert(pc.is_in(table.column("index"), pa.array(list(rejected), pa.int32()))))
    column = whole_columns(table)
    return SpanColumns(
        pa.table(
            {
                "tenant": pa.repeat(tenant, table.num_rows),
                **{name: column[name] for name in _AS_THEY_ARE},
                **{name: pc.ascii_lower(column[name]) for name in ("trace_id", "span_id", "parent_span_id")},
                **{name: _lowered(column[name]) for name in ("link_trace_id", "link_span_id")},
                "kind": pa.array(column["kind"].to_numpy().astype(np.int8)),
                "status_code": pa.array(column["status_code"].to_numpy().astype(np.int8)),
                "start_time": column["start"].view(_TIMESTAMP),
                "duration_ns": pc.subtract(column["end"], column["start"]),
            }
        )
    )


def _lowered(lists: pa.ListArray) -> pa.ListArray:
    if len(lists.values) == 0:
        return lists
    return pa.ListArray.from_arrays(lists.offsets, pc.ascii_lower(lists.values))


SpanIngest = Ingest[Spans, SpanColumns]
