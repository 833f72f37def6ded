"""What comes in: check columns, resolve series, publish, acknowledge.

Values and times are checked for all points at once. Names, kinds, units and labels are checked once a distinct
series. Only refused points are looked at one by one, to word what is wrong with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.metrics import distributions
from services.metrics.config import MetricsConfig
from services.metrics.model import (
    DISTRIBUTION_COLUMNS,
    DISTRIBUTION_KINDS,
    Kind,
    MetricColumns,
    Points,
    SeriesRow,
    milliseconds,
)
from services.metrics.series import LONGEST_CACHED, SeriesIndex, series_id
from services.shared.bus.ingest import Checked, Ingest, limit_items
from services.shared.bus.port import Header
from services.shared.errors import FieldViolation
from services.shared.retention import accepted_times

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_.:/\-]{0,254}")
_MAX_UNIT = 63
_MAX_LABEL_KEY = 255
_MAX_LABEL_VALUE = 4096

Violations = dict[int, FieldViolation]

SeriesRule = Callable[[SeriesRow, bool], FieldViolation | None]
"""What is wrong with a series; whether its points are samples."""


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
        return Checked(self._accept(points, tenant, now_ns, rejected, self._violation), rejected)

    def columns(self, points: Points, header: Header) -> MetricColumns:
        """The columns of a batch that was checked before: nothing is refused anew."""
        rejected: Violations = dict.fromkeys(header.rejected, _REFUSED_BEFORE)
        return self._accept(points, header.tenant, header.received_at, rejected, _no_violation)

    def _check_times(self, points: Points, table: pa.Table, now_ns: int, rejected: Violations) -> None:
        time = table.column("time")
        oldest, newest = accepted_times(now_ns, self._config.raw_retention_days)
        wrong = pc.or_(pc.less(time, oldest), pc.greater(time, newest))
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
        kinds = points.metrics.column("kind").to_numpy()[table.column("metric").to_numpy()]
        for violation, wrong in distributions.violations(table, kinds):
            for at in index[wrong].tolist():
                rejected[at] = replace(violation, field=f"{points.dialect_field}[{at}].{violation.field}")

    def _accept(
        self, points: Points, tenant: str, now_ns: int, rejected: Violations, violation_of: SeriesRule
    ) -> MetricColumns:
        with self._index.lock:
            self._index.begin(now_ns)
            return self._resolved(points, tenant, now_ns, rejected, violation_of)

    def _resolved(
        self, points: Points, tenant: str, now_ns: int, rejected: Violations, violation_of: SeriesRule
    ) -> MetricColumns:
        metric_keys = _metric_keys(points.metrics)
        names = points.metrics.column("name").combine_chunks().dictionary_encode()
        tables, series = [], []
        for table in (points.samples, points.distributions):
            kept = _without(table, rejected)
            ids, rows = self._resolve(points, kept, metric_keys, tenant, rejected, violation_of)
            columns = {
                "tenant": _repeated(tenant, kept.num_rows),
                "metric": names.take(kept.column("metric").combine_chunks()),
                "series_id": pa.array(ids),
                "timestamp": milliseconds(kept.column("time").fill_null(now_ns).to_numpy()),
                "start_time": milliseconds(kept.column("start").to_numpy()),
                "index": kept.column("index"),
            }
            values = ("value",) if table is points.samples else DISTRIBUTION_COLUMNS
            for name in values:
                columns[name] = kept.column(name)
            accepted = _without(pa.table(columns), rejected).drop_columns("index")
            tables.append(accepted)
            series += rows
        return MetricColumns(tables[0], tables[1], series)

    def _resolve(
        self,
        points: Points,
        table: pa.Table,
        metric_keys: pa.DictionaryArray,
        tenant: str,
        rejected: Violations,
        violation_of: SeriesRule,
    ) -> tuple[np.ndarray[Any, np.dtype[np.uint64]], list[SeriesRow]]:
        if table.num_rows == 0:
            return np.zeros(0, np.uint64), []
        keys = self._index.keys(
            tenant,
            metric_keys.take(table.column("metric").combine_chunks()),
            table.column("labels_key").combine_chunks().cast(pa.binary()).dictionary_encode(),
            pa.DictionaryArray.from_arrays(
                table.column("resource").combine_chunks(), pa.array(points.resources, pa.binary())
            ),
        )
        encoded = pa.array(keys).dictionary_encode()
        codes = encoded.indices.to_numpy()
        distinct = encoded.dictionary.to_pylist()
        ids = self._index.find(distinct)
        missing = [at for at, known in enumerate(ids) if known is None]
        if missing:
            first = np.empty(len(distinct), np.int64)
            first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
            refused: dict[int, FieldViolation] = {}
            is_sample = table.schema.get_field_index("value") >= 0
            for at, row in zip(missing, _series(points, table.take(first[missing]), tenant), strict=True):
                if (violation := violation_of(row, is_sample)) is not None:
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
        return resolved[codes], self._index.unwritten(tenant, ids)

    def _violation(self, row: SeriesRow, is_sample: bool) -> FieldViolation | None:
        labels = row.labels
        if not _NAME.fullmatch(row.metric):
            return FieldViolation(
                "name",
                "must be 1 to 255 characters: a letter, '_' or ':', then letters, digits and '_ . : / -'",
                "INVALID_NAME",
            )
        if row.kind not in _KIND_NAMES:
            return FieldViolation("kind", f"{row.kind} is not a known kind", "UNKNOWN_ENUM_VALUE")
        if is_sample and row.kind in _DISTRIBUTION_NAMES:
            return FieldViolation("kind", f"{row.kind} can be sent over OTLP only")
        if len(row.unit) > _MAX_UNIT:
            return FieldViolation("unit", f"must have at most {_MAX_UNIT} characters", "SIZE_LIMIT_EXCEEDED")
        if len(labels) > self._config.max_labels:
            return FieldViolation(
                "labels",
                f"has {len(labels)} labels; at most {self._config.max_labels} are allowed",
                "LABEL_LIMIT_EXCEEDED",
            )
        # Nearly always: one look at all of them is cheaper than one at each.
        longest_key, longest_value = max(map(len, labels), default=0), max(map(len, labels.values()), default=0)
        if all(labels) and longest_key <= _MAX_LABEL_KEY and longest_value <= _MAX_LABEL_VALUE:
            return None
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


_KINDS = {kind.value: kind.name for kind in Kind}
_KIND_NAMES = frozenset(_KINDS.values())
_DISTRIBUTION_NAMES = frozenset(kind.name for kind in DISTRIBUTION_KINDS)
_REFUSED_BEFORE = FieldViolation("", "")


def _no_violation(_row: SeriesRow, _is_sample: bool) -> None:
    """What was accepted stays so, also where the limits are lower than those of the one that accepted it."""


def _series(points: Points, table: pa.Table, tenant: str) -> Iterator[SeriesRow]:
    of_series = table.column("metric").combine_chunks().dictionary_encode()
    distinct = points.metrics.take(of_series.dictionary).to_pylist()
    metrics = [distinct[at] for at in of_series.indices.to_pylist()]
    resources = table.column("resource").to_pylist()
    shared = {at: points.reader.shared(points.resources[at]) for at in set(resources)}
    for metric, resource, own in zip(metrics, resources, points.reader.own(table.column("labels")), strict=True):
        labels = {**shared[resource], **own}
        kind = _KINDS.get(metric["kind"], str(metric["kind"]))
        metadata = metric["metadata"]
        if metric["description"]:
            describe = _described if len(metric["description"]) <= LONGEST_CACHED else _described.__wrapped__
            metadata = describe(metric["description"])
        identity = series_id(tenant, metric["name"], kind, metric["unit"], labels)
        yield SeriesRow(tenant, metric["name"], identity, kind, metric["unit"], labels, metadata)


@lru_cache(maxsize=1_000)
def _described(description: str) -> str:
    return json.dumps({"description": description}, ensure_ascii=False)


def _metric_keys(metrics: pa.Table) -> pa.DictionaryArray:
    texts = [metrics.column(name) for name in ("name", "unit", "description", "metadata")]
    # Lengths go in front, so that no text can imitate the parts of another key.
    lengths = [pc.binary_length(column).cast(pa.string()) for column in texts]
    keys = pc.binary_join_element_wise(metrics.column("kind").cast(pa.string()), *lengths, *texts, "\x1d")
    return keys.combine_chunks().cast(pa.binary()).dictionary_encode()


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([text]))


def _without(table: pa.Table, rejected: Violations) -> pa.Table:
    if not rejected:
        return table
    return table.filter(pc.invert(pc.is_in(table.column("index"), pa.array(list(rejected), pa.int32()))))


MetricIngest = Ingest[Points, MetricColumns]
