"""A checked filter: every field known, every value of the field's type. Stores compile it; it knows none.

`!=` is `Negation` of an `EQUAL`, so an absent key or null, which equals nothing, does match `!=`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from services.shared.filter.fields import Field
from services.shared.filter.terms import Term

Value = str | int | float | bool | tuple[str, ...] | None
"""str, bool, int, float; for IN the accepted names; for PRESENT None. Durations and timestamps: int nanoseconds."""


class Test(Enum):
    """What a predicate asks of a value that is there."""

    EQUAL = "="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    STARTS_WITH = "starts with"
    ENDS_WITH = "ends with"
    CONTAINS = "contains"
    CONTAINS_IGNORING_CASE = "contains, ignoring case"
    """The value is in lower case already."""
    IN = "is one of"
    """ENUM only."""
    PRESENT = "is there"
    """A key or value that is there; of plain fields: not null and neither zero, false nor empty."""

    __test__ = False


@dataclass(frozen=True, slots=True)
class Predicate:
    """One field, or one key of a map, and what must hold for it. Ordering of strings is by code point."""

    field: Field
    key: str | None
    test: Test
    value: Value


@dataclass(frozen=True, slots=True)
class TermMatch:
    """The term occurs in at least one of the fields."""

    fields: tuple[Field, ...]
    term: Term


@dataclass(frozen=True, slots=True)
class AllOf:
    """All hold."""

    operands: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one holds."""

    operands: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """It does not hold."""

    operand: Checked


Checked = AllOf | AnyOf | Negation | Predicate | TermMatch


def flat(tree: Checked, *, negated: bool = False) -> Checked:
    """What says the same, or with `negated` the opposite, less deeply.

    Only predicates and terms are negated in it, and no operand is of the same kind as what it is an operand of.
    """
    while isinstance(tree, Negation):
        tree, negated = tree.operand, not negated
    if not isinstance(tree, AllOf | AnyOf):
        return Negation(tree) if negated else tree
    kind = AllOf if isinstance(tree, AllOf) is not negated else AnyOf
    operands: list[Checked] = []
    for operand in tree.operands:
        made = flat(operand, negated=negated)
        operands += made.operands if isinstance(made, AllOf | AnyOf) and type(made) is kind else (made,)
    return kind(tuple(operands))
