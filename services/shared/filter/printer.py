"""Writes a tree as a filter that reads back as the same tree."""

from __future__ import annotations

from services.shared.filter.ast import And, Comparison, Expression, FullText, Literal, LiteralKind, Not, Or
from services.shared.filter.literals import read_bare
from services.shared.filter.parser import KEYWORDS
from services.shared.filter.scanner import Scanner

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_text(expression: Expression | None) -> str:
    """The filter that `parse` reads as `expression`; empty for None."""
    if expression is None:
        return ""
    if isinstance(expression, And):
        return " AND ".join(_operand(operand) for operand in expression.operands)
    if isinstance(expression, Or):
        return " OR ".join(_operand(operand) for operand in expression.operands)
    if isinstance(expression, Not):
        operand = to_text(expression.operand)
        return f"NOT ({operand})" if isinstance(expression.operand, And | Or | Not) else f"NOT {operand}"
    if isinstance(expression, FullText):
        return _full_text(expression)
    path = ".".join(_segment(segment) for segment in expression.path)
    return f"{path} {expression.operator.value} {_literal(expression)}"


def _operand(expression: Expression) -> str:
    return f"({to_text(expression)})" if isinstance(expression, And | Or) else to_text(expression)


def _full_text(term: FullText) -> str:
    is_plain = not term.is_phrase and _is_bare(term.text, is_value=False)
    return term.text if is_plain else f'"{_quote(term.text)}"'


def _segment(segment: str) -> str:
    return segment if _is_bare(segment, is_value=False) and "." not in segment else f'"{_quote(segment)}"'


def _is_bare(text: str, *, is_value: bool) -> bool:
    """Whether the scanner reads `text` without quotes as one word."""
    if not text or text in KEYWORDS or text[0] in "\"'" or (text[0] == "-" and not is_value):
        return False
    if not is_value and any(f".{quote}" in text for quote in "\"'"):
        return False
    scanner = Scanner(text)
    return scanner.bare(is_value=is_value) == text


def _quote(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)


def _literal(comparison: Comparison) -> str:
    literal = comparison.value
    if literal.kind is not LiteralKind.STRING:
        text = literal.text or str(literal.value)
        if _is_bare(text, is_value=True) and read_bare(text) == literal:
            return text
    return f'"{_pattern(literal)}"'


def _pattern(literal: Literal) -> str:
    value = str(literal.value)
    if not value and (literal.starts_open or literal.ends_open):
        return "*"
    quoted = _quote(value)
    # A star that was escaped stays one: only a star without a backslash is a wildcard.
    if value.startswith("*"):
        quoted = "\\" + quoted
    if value.endswith("*") and len(value) > 1:
        quoted = quoted[:-1] + "\\*"
    return ("*" if literal.starts_open else "") + quoted + ("*" if literal.ends_open else "")
