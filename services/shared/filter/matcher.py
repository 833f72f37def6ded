"""Evaluates a checked filter against one record in Python, with the meaning that the stores give it.

A record is a mapping from field names to plain values; maps are mappings. Absent and None mean the zero of the
field's kind, as a store without nulls keeps it; where the field is nullable, they match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from services.shared.filter.fields import Field, Kind
from services.shared.filter.tree import AllOf, AnyOf, Checked, Negation, Predicate, TermMatch, Test

Record = Mapping[str, Any]
"""Values by kind: STRING and ID str; NUMBER and INTEGER int or float; BOOLEAN bool; DURATION a number in the
field's unit; TIMESTAMP an aware datetime or int nanoseconds since 1970; ENUM its name or number; LABEL_MAP a mapping
of str; TYPED_MAP a mapping of str, int, float, bool or anything else, which only its key can be asked for."""

_ZERO: dict[Kind, Any] = {
    Kind.STRING: "",
    Kind.ID: "",
    Kind.NUMBER: 0,
    Kind.INTEGER: 0,
    Kind.BOOLEAN: False,
    Kind.DURATION: 0,
    Kind.TIMESTAMP: 0,
    Kind.ENUM: "",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HOLDS: dict[Test, Callable[[Any, Any], bool]] = {
    Test.EQUAL: lambda actual, value: actual == value,
    Test.LESS: lambda actual, value: actual < value,
    Test.LESS_OR_EQUAL: lambda actual, value: actual <= value,
    Test.GREATER: lambda actual, value: actual > value,
    Test.GREATER_OR_EQUAL: lambda actual, value: actual >= value,
    Test.STARTS_WITH: lambda actual, value: actual.startswith(value),
    Test.ENDS_WITH: lambda actual, value: actual.endswith(value),
    Test.CONTAINS: lambda actual, value: value in actual,
    Test.CONTAINS_IGNORING_CASE: lambda actual, value: value in actual.lower(),
    Test.IN: lambda actual, value: actual in value,
    Test.PRESENT: lambda actual, _: bool(actual),
}


def holds(test: Test, actual: object, value: object) -> bool:
    """Whether `actual`, a value of the same type as `value`, passes the test."""
    return _HOLDS[test](actual, value)


def matches(tree: Checked | None, record: Record) -> bool:
    """Whether the record matches; None, the filter that says nothing, matches all."""
    if tree is None:
        return True
    if isinstance(tree, AllOf):
        return all(matches(operand, record) for operand in tree.operands)
    if isinstance(tree, AnyOf):
        return any(matches(operand, record) for operand in tree.operands)
    if isinstance(tree, Negation):
        return not matches(tree.operand, record)
    if isinstance(tree, TermMatch):
        pattern = tree.term.pattern()
        return any(pattern.search((record.get(field.name) or "").lower()) for field in tree.fields)
    if tree.field.is_map:
        return _matches_map(tree, record.get(tree.field.name) or {})
    actual = _plain(tree.field, record.get(tree.field.name))
    return actual is not None and holds(tree.test, actual, threshold(tree))


def threshold(predicate: Predicate) -> object:
    """The value to compare with, in the stored unit: a duration becomes an int where that is exact."""
    value, unit = predicate.value, predicate.field.unit_nanoseconds
    if predicate.field.kind is not Kind.DURATION or not isinstance(value, int):
        return value
    return value // unit if value % unit == 0 else value / unit


def _matches_map(predicate: Predicate, entries: Mapping[str, Any]) -> bool:
    key, value = predicate.key, predicate.value
    if key is None:
        return bool(entries)
    if key not in entries:
        return False
    if predicate.test is Test.PRESENT:
        return True
    actual = entries[key]
    if isinstance(value, bool) or isinstance(actual, bool):
        is_comparable = isinstance(value, bool) and isinstance(actual, bool)
    elif isinstance(value, str):
        is_comparable = isinstance(actual, str)
    else:
        is_comparable = isinstance(actual, int | float)
    return is_comparable and holds(predicate.test, actual, value)


def _plain(field: Field, actual: Any) -> Any:
    """The value as the tests compare it; None: null."""
    if actual is None:
        return None if field.nullable else _ZERO[field.kind]
    if isinstance(actual, datetime):
        return (actual - _EPOCH) // timedelta(microseconds=1) * 1000
    if field.kind is Kind.ID:
        return actual.lower()
    if field.kind is Kind.ENUM and not isinstance(actual, str):
        return next((name for name, number in field.enum if number == actual), "" if actual == 0 else str(actual))
    return actual
