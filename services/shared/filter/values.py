"""What one comparison means for a field of each kind."""

from __future__ import annotations

import re

from services.shared.filter.ast import Comparison, Literal, LiteralKind, Operator
from services.shared.filter.fault import excerpt, fault
from services.shared.filter.fields import Field, Kind
from services.shared.filter.literals import read_duration, read_timestamp
from services.shared.filter.tree import Predicate, Test

_TEXT = (LiteralKind.STRING, LiteralKind.WORD)
_ORDER = {
    Operator.EQUAL: Test.EQUAL,
    Operator.LESS: Test.LESS,
    Operator.LESS_OR_EQUAL: Test.LESS_OR_EQUAL,
    Operator.GREATER: Test.GREATER,
    Operator.GREATER_OR_EQUAL: Test.GREATER_OR_EQUAL,
}
_HEX = re.compile(r"[0-9a-f]+")
_INT64 = range(-(2**63), 2**63)


def predicate(field: Field, key: str | None, operator: Operator, node: Comparison) -> Predicate:
    """The predicate of a comparison; `operator` is never NOT_EQUAL.

    Raises:
        InvalidArgumentError: The operator or the value does not fit the field.
    """
    literal = node.value
    if literal.starts_open and literal.ends_open and not literal.value:
        # AIP-160 gives `a = "*"` the meaning of `a:*`.
        if operator not in (Operator.HAS, Operator.EQUAL):
            raise fault(node.value_position, f"expected a value; * cannot be used with {operator.value}.")
        return Predicate(field, key, Test.PRESENT, None)
    test, value = _READERS[field.kind](field, operator, node)
    return Predicate(field, key, test, value)


def _string(field: Field, operator: Operator, node: Comparison) -> tuple[Test, str]:
    literal = node.value
    text = str(literal.value) if literal.kind in _TEXT else literal.text
    if operator is Operator.HAS:
        if not text:
            raise fault(node.value_position, 'expected a text after ":"; an empty one is in every text.')
        return Test.CONTAINS_IGNORING_CASE, text.lower()
    if not literal.starts_open and not literal.ends_open:
        return _ORDER[operator], text
    if operator is not Operator.EQUAL:
        raise fault(
            node.value_position,
            rf'a * at an end is a wildcard only for =, != and ":"; write "\*" for a star with {operator.value}.',
        )
    if literal.starts_open and literal.ends_open:
        return Test.CONTAINS, text
    return (Test.ENDS_WITH if literal.starts_open else Test.STARTS_WITH), text


def _label(field: Field, operator: Operator, node: Comparison) -> tuple[Test, str]:
    if operator not in (Operator.EQUAL, Operator.HAS) and node.value.kind not in _TEXT:
        raise fault(
            node.position,
            f"{field.name} holds strings; expected = != or :, or a text in quotes, which {operator.value} "
            "compares letter by letter.",
        )
    return _string(field, operator, node)


def _number(field: Field, operator: Operator, node: Comparison) -> tuple[Test, int | float]:
    is_whole = field.kind is Kind.INTEGER
    if node.value.kind is not LiteralKind.INTEGER and (is_whole or node.value.kind is not LiteralKind.NUMBER):
        raise _wrong(field, node, "one such as 500, without quotes" if is_whole else "one such as 0.5, without quotes")
    return _ordering(operator), _fit(node.value, node, whole=is_whole)


def _fit(literal: Literal, node: Comparison, *, whole: bool) -> int | float:
    """The number as an int of 64 bits, else as a float; no store takes larger integers."""
    value = literal.value
    assert isinstance(value, int | float)  # noqa: S101 - the kinds above hold numbers only
    if isinstance(value, float) or value in _INT64:
        return value
    if whole:
        raise fault(node.value_position, "expected a whole number that fits 64 bits, from -2^63 to 2^63 - 1.")
    try:
        return float(value)
    except OverflowError:
        raise fault(node.value_position, "expected a number; this one is beyond 1.8e308.") from None


def _boolean(field: Field, operator: Operator, node: Comparison) -> tuple[Test, bool]:
    text = str(node.value.value).lower() if node.value.kind is not LiteralKind.BOOLEAN else node.value.text
    if text not in ("true", "false") or node.value.starts_open or node.value.ends_open:
        raise _wrong(field, node, "true or false")
    if operator not in (Operator.EQUAL, Operator.HAS):
        raise _unusable(field, operator, node, "= and !=")
    return Test.EQUAL, text == "true"


def _duration(field: Field, operator: Operator, node: Comparison) -> tuple[Test, int]:
    value = node.value.value if node.value.kind is LiteralKind.DURATION else read_duration(node.value.text)
    if not isinstance(value, int) or value not in _INT64:
        raise _wrong(field, node, "a duration with its unit (ns, us, ms, s, m, h, d), such as 100ms or 1.5h")
    return _ordering(operator), value


def _timestamp(field: Field, operator: Operator, node: Comparison) -> tuple[Test, int]:
    value = node.value.value if node.value.kind is LiteralKind.TIMESTAMP else read_timestamp(node.value.text)
    if not isinstance(value, int) or value not in _INT64:
        raise _wrong(field, node, 'an RFC 3339 time between 1678 and 2262, such as "2026-01-31T09:00:00Z"')
    return _ordering(operator), value


def _enum(field: Field, operator: Operator, node: Comparison) -> tuple[Test, tuple[str, ...]]:
    names = [name for name, _ in field.enum]
    name = node.value.text.upper()
    if name not in names:
        raise _wrong(field, node, f"one of {', '.join(names)}")
    at = names.index(name)
    accepted = {
        Operator.LESS: names[:at],
        Operator.LESS_OR_EQUAL: names[: at + 1],
        Operator.GREATER: names[at + 1 :],
        Operator.GREATER_OR_EQUAL: names[at:],
    }
    return Test.IN, tuple(accepted.get(operator, [name]))


def _identifier(field: Field, operator: Operator, node: Comparison) -> tuple[Test, str]:
    literal = node.value
    text = (str(literal.value) if literal.kind in _TEXT else literal.text).lower()
    if operator is not Operator.EQUAL:
        raise _unusable(field, operator, node, "=, != and :*")
    if not _HEX.fullmatch(text) or literal.starts_open:
        raise _wrong(field, node, "hexadecimal digits, at most with a * at the end")
    return (Test.STARTS_WITH if literal.ends_open else Test.EQUAL), text


def _typed(field: Field, operator: Operator, node: Comparison) -> tuple[Test, str | int | float | bool]:
    """A value of a typed map: the literal decides which type is meant."""
    literal = node.value
    if literal.kind in (LiteralKind.INTEGER, LiteralKind.NUMBER):
        return _ordering(operator), _fit(literal, node, whole=False)
    if literal.kind is LiteralKind.BOOLEAN:
        return _boolean(field, operator, node)
    if operator not in (Operator.EQUAL, Operator.HAS) and literal.kind not in _TEXT:
        raise _wrong(field, node, "a number, or a text in quotes")
    return _string(field, operator, node)


def _ordering(operator: Operator) -> Test:
    """Where "contains" makes no sense, ":" means "="."""
    return Test.EQUAL if operator is Operator.HAS else _ORDER[operator]


def _wrong(field: Field, node: Comparison, expected: str) -> Exception:
    return fault(
        node.value_position,
        f"{'.'.join(node.path)} is {field.kind.value}; expected {expected}, found {excerpt(node.value.text)}.",
    )


def _unusable(field: Field, operator: Operator, node: Comparison, usable: str) -> Exception:
    return fault(
        node.position,
        f"{'.'.join(node.path)} is {field.kind.value} and cannot be used with {operator.value}; expected {usable}.",
    )


_READERS = {
    Kind.STRING: _string,
    Kind.NUMBER: _number,
    Kind.INTEGER: _number,
    Kind.BOOLEAN: _boolean,
    Kind.DURATION: _duration,
    Kind.TIMESTAMP: _timestamp,
    Kind.ENUM: _enum,
    Kind.ID: _identifier,
    Kind.LABEL_MAP: _label,
    Kind.TYPED_MAP: _typed,
}
