"""What a filter says, before anybody knows which fields exist.

Trees compare by meaning: `text` of a literal and `position` of a node are kept for messages and do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Operator(Enum):
    """How a field is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    HAS = ":"


class LiteralKind(Enum):
    """What a value looks like. Only the field decides what it means."""

    STRING = "string"
    """In quotes; `value` is the text."""
    WORD = "word"
    """Without quotes and none of the below; `value` is the text."""
    INTEGER = "integer"
    """`value` is an int."""
    NUMBER = "number"
    """`value` is a finite float."""
    DURATION = "duration"
    """`value` is an int: nanoseconds."""
    TIMESTAMP = "timestamp"
    """`value` is an int: nanoseconds since 1970 in UTC."""
    BOOLEAN = "boolean"
    """`value` is a bool."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value.

    Args:
        kind: What it looks like.
        value: See `LiteralKind`. For STRING and WORD without the wildcards at its ends.
        starts_open: A `*` stands before it: anything may precede. STRING and WORD only.
        ends_open: A `*` stands after it: anything may follow. STRING and WORD only. A lone `*` is the empty
            value with both ends open.
        text: As written, without quotes or escapes.
    """

    kind: LiteralKind
    value: str | int | float | bool
    starts_open: bool = False
    ends_open: bool = False
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field compared with a value: `labels.host = "a"`."""

    path: tuple[str, ...]
    operator: Operator
    value: Literal
    position: int = field(default=1, compare=False)
    value_position: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class FullText:
    """A bare word, or a phrase in quotes. A word may have a `*` at an end; in a phrase `*` is a star."""

    text: str
    is_phrase: bool
    position: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; two or more."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one operand holds; two or more."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The operand does not hold."""

    operand: Expression


Expression = And | Or | Not | Comparison | FullText
