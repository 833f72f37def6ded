"""Checks a tree against a schema: finds each field and turns each value into the field's type."""

from __future__ import annotations

from services.shared.filter.ast import (
    And,
    Comparison,
    Expression,
    FullText,
    Literal,
    LiteralKind,
    Not,
    Operator,
    Or,
)
from services.shared.filter.fault import excerpt, fault
from services.shared.filter.fields import Field, Schema
from services.shared.filter.terms import term_of
from services.shared.filter.tree import AllOf, AnyOf, Checked, Negation, Predicate, TermMatch, Test
from services.shared.filter.values import predicate


def check(expression: Expression, schema: Schema) -> Checked:
    """The tree with fields and types.

    Raises:
        InvalidArgumentError: A field is unknown (the known ones are listed), an operator or value does not fit
            a field, or full text is not possible here. Names the character.
    """
    if isinstance(expression, And):
        return AllOf(tuple(check(operand, schema) for operand in expression.operands))
    if isinstance(expression, Or):
        return AnyOf(tuple(check(operand, schema) for operand in expression.operands))
    if isinstance(expression, Not):
        return Negation(check(expression.operand, schema))
    if isinstance(expression, FullText):
        if not schema.full_text:
            raise fault(
                expression.position,
                f"words and phrases cannot be looked for here; expected a field, an operator and a value. "
                f"Fields: {schema.known()}.",
            )
        return TermMatch(schema.full_text, term_of(expression))
    return _comparison(expression, schema)


def _comparison(node: Comparison, schema: Schema) -> Checked:
    field, key = _resolve(node, schema)
    if field.is_map and key is None:
        return _whole_map(node, field)
    if node.operator is Operator.NOT_EQUAL:
        return Negation(predicate(field, key, Operator.EQUAL, node))
    return predicate(field, key, node.operator, node)


def _resolve(node: Comparison, schema: Schema) -> tuple[Field, str | None]:
    """The field of a path, and the key when it is one of a map."""
    whole = ".".join(node.path)
    path = node.path
    if whole in schema.aliases:
        path = _split(schema.aliases[whole])
    elif path[0] in schema.aliases:
        path = (*_split(schema.aliases[path[0]]), *path[1:])
    found = schema.fields.get(".".join(path))
    if found is not None:
        return found, None
    found = schema.fields.get(path[0])
    if found is not None and found.is_map:
        return found, ".".join(path[1:])
    if found is None and schema.bare_keys is not None:
        return schema.bare_keys, whole
    if found is not None:
        raise fault(node.position, f"the field {found.name} is {found.kind.value} and has no keys.")
    raise fault(node.position, f"there is no field {excerpt(whole)}; expected one of: {schema.known()}.")


def _split(path: str) -> tuple[str, ...]:
    first, dot, rest = path.partition(".")
    return (first, rest) if dot else (first,)


def _whole_map(node: Comparison, field: Field) -> Checked:
    """`labels:host`: the key is there. `labels:*`: any is."""
    literal: Literal = node.value
    if node.operator is not Operator.HAS:
        raise fault(
            node.position,
            f"{field.name} is {field.kind.value}; expected a key, as in {field.name}.<key>, or {field.name}:<key>.",
        )
    if literal.kind in (LiteralKind.STRING, LiteralKind.WORD) and (literal.starts_open or literal.ends_open):
        if literal.value:
            raise fault(node.value_position, "expected a whole key or a lone *; keys have no wildcards.")
        return Predicate(field, None, Test.PRESENT, None)
    return Predicate(field, literal.text, Test.PRESENT, None)
