"""What comes in: check columns, resolve series, publish, acknowledge.

Values and times are checked for all points at once. Names, kinds, units and labels are checked once a distinct
series. Only refused points are looked at one by one, to word what is wrong with them.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.metrics import distributions
from services.metrics.config import MetricsConfig
from services.metrics.model import DISTRIBUTION_COLUMNS, DISTRIBUTION_KINDS, Kind, MetricColumns, Points, SeriesRow
from services.metrics.series import SeriesIndex, series_id
from services.shared.bus.ingest import Checked, Ingest, limit_items
from services.shared.bus.port import Header
from services.shared.errors import FieldViolation

_DAY_NS = 86_400 * 1_000_000_000
_MILLISECOND_NS = 1_000_000
_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_.:/\-]{0,254}")
_MAX_UNIT = 63
_MAX_LABEL_KEY = 255
_MAX_LABEL_VALUE = 4096

Violations = dict[int, FieldViolation]


class Checker:
    """Turns decoded points into the columns of the store.

    Args:
        config: The limits.
        index: The series seen so far.
    """

    def __init__(self, config: MetricsConfig, index: SeriesIndex) -> None:
        self._config = config
        self._index = index

    def check(self, points: Points, tenant: str, now_ns: int) -> Checked[MetricColumns]:
        """Splits points into accepted columns and refused indices.

        Args:
            points: Decoded points.
            tenant: Whose they are.
            now_ns: The moment of receipt; a point without a time gets it.

        Raises:
            InvalidArgumentError: There are more points than a request may have.
        """
        limit_items(points, self._config.max_items, "points")
        rejected: Violations = {}
        self._check_times(points, points.samples, now_ns, rejected)
        self._check_times(points, points.distributions, now_ns, rejected)
        self._check_values(points, rejected)
        self._check_distributions(points, rejected)
        return Checked(self._accept(points, tenant, now_ns, rejected), rejected)

    def columns(self, points: Points, header: Header) -> MetricColumns:
        """The columns of a batch that was checked before: nothing is refused anew."""
        rejected: Violations = dict.fromkeys(header.rejected, _REFUSED_BEFORE)
        return self._accept(points, header.tenant, header.received_at, rejected)

    def _check_times(self, points: Points, table: pa.Table, now_ns: int, rejected: Violations) -> None:
        time = table.column("time")
        oldest = now_ns - self._config.raw_retention_days * _DAY_NS
        wrong = pc.or_(pc.less(time, oldest), pc.greater(time, now_ns + _DAY_NS))
        if pc.any(wrong).as_py():
            for index in table.column("index").filter(wrong).to_pylist():
                rejected[index] = FieldViolation(
                    f"{points.dialect_field}[{index}].timestamp",
                    f"must not be older than {self._config.raw_retention_days} days nor more than one day ahead",
                    "TIMESTAMP_OUT_OF_RANGE",
                )

    def _check_values(self, points: Points, rejected: Violations) -> None:
        finite = pc.is_finite(points.samples.column("value")).fill_null(False)
        if not pc.all(finite).as_py():
            for index in points.samples.column("index").filter(pc.invert(finite)).to_pylist():
                rejected[index] = FieldViolation(
                    f"{points.dialect_field}[{index}].value", "must be a finite number", "NON_FINITE_VALUE"
                )

    def _check_distributions(self, points: Points, rejected: Violations) -> None:
        table = points.distributions
        if table.num_rows == 0:
            return
        index = table.column("index").to_numpy()
        for violation, wrong in distributions.violations(table):
            for at in index[wrong].tolist():
                rejected[at] = replace(violation, field=f"{points.dialect_field}[{at}].{violation.field}")

    def _accept(self, points: Points, tenant: str, now_ns: int, rejected: Violations) -> MetricColumns:
        self._index.begin(now_ns)
        tables, series = [], []
        for table in (points.samples, points.distributions):
            kept = _without(table, rejected)
            ids, rows = self._resolve(points, kept, tenant, rejected)
            columns = {
                "tenant": pa.repeat(tenant, kept.num_rows),
                "metric": kept.column("name"),
                "series_id": pa.array(ids),
                "timestamp": _milliseconds(kept.column("time").fill_null(now_ns)),
                "start_time": _milliseconds(kept.column("start")),
                "index": kept.column("index"),
            }
            names = ("value",) if table is points.samples else DISTRIBUTION_COLUMNS
            for name in names:
                columns[name] = kept.column(name)
            accepted = _without(pa.table(columns), rejected).drop_columns("index")
            tables.append(accepted)
            series += rows
        return MetricColumns(tables[0], tables[1], series)

    def _resolve(
        self, points: Points, table: pa.Table, tenant: str, rejected: Violations
    ) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], list[SeriesRow]]:
        if table.num_rows == 0:
            return np.zeros(0, np.uint64), []
        keys = _keys(points, table, tenant).combine_chunks().dictionary_encode()
        codes = keys.indices.to_numpy()
        distinct = keys.dictionary.to_pylist()
        ids = self._index.find(distinct)
        missing = [at for at, known in enumerate(ids) if known is None]
        if missing:
            first = np.empty(len(distinct), np.int64)
            first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
            refused: dict[int, FieldViolation] = {}
            for at, item in zip(missing, table.take(first[missing]).to_pylist(), strict=True):
                row, violation = self._series(item, points.resources, tenant)
                if violation is not None:
                    refused[at] = violation
                else:
                    ids[at] = row.series_id
                    self._index.add(distinct[at], row)
            if refused:
                indices = table.column("index").to_numpy()
                for place in np.flatnonzero(np.isin(codes, list(refused))).tolist():
                    at = int(indices[place])
                    violation = refused[int(codes[place])]
                    rejected.setdefault(
                        at,
                        FieldViolation(
                            f"{points.dialect_field}[{at}].{violation.field}", violation.description, violation.reason
                        ),
                    )
        resolved = np.array([known or 0 for known in ids], np.uint64)
        return resolved[codes], self._index.unwritten(ids)

    def _series(self, item: dict[str, Any], resources: Any, tenant: str) -> tuple[SeriesRow, FieldViolation | None]:
        labels = {**resources[item["resource"]], **dict(item["labels"])}
        violation = self._violation(item, labels)
        kind = Kind(item["kind"]).name if item["kind"] in _KINDS else ""
        metadata = item["metadata"]
        if item["description"]:
            metadata = json.dumps({"description": item["description"]}, ensure_ascii=False)
        identity = series_id(tenant, item["name"], kind, item["unit"], labels)
        return SeriesRow(tenant, item["name"], identity, kind, item["unit"], labels, metadata), violation

    def _violation(self, item: dict[str, Any], labels: dict[str, str]) -> FieldViolation | None:
        if not _NAME.fullmatch(item["name"]):
            return FieldViolation(
                "name",
                "must be 1 to 255 characters: a letter, '_' or ':', then letters, digits and '_ . : / -'",
                "INVALID_NAME",
            )
        if item["kind"] not in _KINDS:
            return FieldViolation("kind", f"{item['kind']} is not a known kind", "UNKNOWN_ENUM_VALUE")
        if Kind(item["kind"]) in DISTRIBUTION_KINDS and "value" in item:
            return FieldViolation("kind", f"{Kind(item['kind']).name} can be sent over OTLP only")
        if len(item["unit"]) > _MAX_UNIT:
            return FieldViolation("unit", f"must have at most {_MAX_UNIT} characters", "SIZE_LIMIT_EXCEEDED")
        if len(labels) > self._config.max_labels:
            return FieldViolation(
                "labels",
                f"has {len(labels)} labels; at most {self._config.max_labels} are allowed",
                "LABEL_LIMIT_EXCEEDED",
            )
        for key, value in labels.items():
            if not 1 <= len(key) <= _MAX_LABEL_KEY:
                return FieldViolation(
                    "labels", f"keys must have 1 to {_MAX_LABEL_KEY} characters", "LABEL_LIMIT_EXCEEDED"
                )
            if len(value) > _MAX_LABEL_VALUE:
                return FieldViolation(
                    "labels",
                    f"the value of {key!r} is longer than {_MAX_LABEL_VALUE} characters",
                    "LABEL_LIMIT_EXCEEDED",
                )
        return None


_KINDS = frozenset(kind.value for kind in Kind)
_REFUSED_BEFORE = FieldViolation("", "")


def _keys(points: Points, table: pa.Table, tenant: str) -> Any:
    resource_keys = pa.array([json.dumps([tenant, sorted(labels.items())]) for labels in points.resources])
    name, unit, description = (table.column(column) for column in ("name", "unit", "description"))
    # Lengths go in front, so that no text can imitate the parts of another key.
    lengths = [pc.binary_length(column).cast(pa.string()) for column in (name, unit, description)]
    return pc.binary_join_element_wise(
        table.column("kind").cast(pa.string()),
        *lengths,
        name,
        unit,
        description,
        resource_keys.take(table.column("resource").combine_chunks()),
        table.column("metadata"),
        table.column("labels_key"),
        "\x1d",
    )


def _without(table: pa.Table, rejected: Violations) -> pa.Table:
    if not rejected:
        return table
    return table.filter(pc.invert(pc.is_in(table.column("index"), pa.array(list(rejected), pa.int32()))))


def _milliseconds(nanoseconds: Any) -> pa.Array:
    values = nanoseconds.to_numpy() // _MILLISECOND_NS
    return pa.array(values).cast(pa.timestamp("ms", tz="UTC"))


MetricIngest = Ingest[Points, MetricColumns]
