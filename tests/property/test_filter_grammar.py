"""Filters round-trip through text, and no input makes the parser fail in another way than it promises."""

from __future__ import annotations

import string

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.shared.errors import InvalidArgumentError
from services.shared.filter import Field, Kind, Schema, check, highlight_terms, parse, to_text
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
from services.shared.filter.clickhouse import compile_clickhouse
from services.shared.filter.literals import read_bare

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BARE = st.text(string.ascii_letters + string.digits + "_/*!-가서é.", min_size=1, max_size=8).filter(
    lambda text: text[0] not in "-." and text not in ("AND", "OR", "NOT")
)
STRINGS = st.builds(
    lambda value, starts, ends: Literal(LiteralKind.STRING, value, starts, ends),
    TEXTS,
    st.booleans(),
    st.booleans(),
).filter(lambda literal: literal.value != "" or literal.starts_open == literal.ends_open)
BARE_VALUES = st.one_of(
    BARE,
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["100ms", "1.5h", "true", "2026-01-31T09:00:00.5+09:00", "http://x:80", "*"]),
).map(read_bare)
LEAVES: st.SearchStrategy[Expression] = st.one_of(
    st.builds(FullText, BARE, st.just(False)),
    st.builds(FullText, TEXTS.filter(bool), st.just(True)),
    st.builds(
        Comparison,
        st.lists(TEXTS.filter(bool), min_size=1, max_size=3).map(tuple),
        st.sampled_from(Operator),
        st.one_of(STRINGS, BARE_VALUES),
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        st.lists(children, min_size=2, max_size=3).map(lambda operands: And(tuple(operands))),
        st.lists(children, min_size=2, max_size=3).map(lambda operands: Or(tuple(operands))),
        children.map(Not),
    ),
    max_leaves=12,
)
SCHEMA = Schema.of(
    [
        Field("a", Kind.STRING, text_index=True),
        Field("n", Kind.INTEGER),
        Field("d", Kind.DURATION),
        Field("t", Kind.TIMESTAMP),
        Field("e", Kind.ENUM, enum=(("LOW", 1), ("HIGH", 2))),
        Field("i", Kind.ID),
        Field("m", Kind.TYPED_MAP),
        Field("labels", Kind.LABEL_MAP),
    ],
    full_text=["a"],
    bare_keys="labels",
)
# fmt: off
PIECES = st.sampled_from([
    "a", "n", "m.x", "e", "i", "t", "d", "LOW", "ab", "true", "5", "1.5h", "9" * 30, "AND", "OR", "NOT", "-", "=",
    "!=", "<", ">=", ":", "*", ".", "(", ")", '"', "'", "\\", "\\u", "결제", "😀", " ", "\u3000", "\x00",
])
# fmt: on


def read_or_refused(text: str) -> Expression | None:
    """The tree; None where the text is empty or refused in the way that is promised. Anything else fails."""
    try:
        expression = parse(text)
        if expression is not None:
            compile_clickhouse(check(expression, SCHEMA))
            highlight_terms(expression)
    except InvalidArgumentError as error:
        if (error.reason, error.violations[0].field) != ("INVALID_FILTER", "filter"):
            raise
        return None
    return expression


@given(TREES)
@settings(max_examples=200, deadline=None)
def test_a_printed_tree_reads_back_as_itself(tree: Expression) -> None:
    assert parse(to_text(tree), max_length=10**6) == tree


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
@settings(max_examples=200, deadline=None)
@example("--")
@example("NOT -a")
def test_any_text_is_read_and_compiled_or_refused_as_invalid(text: str) -> None:
    expression = read_or_refused(text)
    assert parse(to_text(expression)) == expression


@given(st.sampled_from(["(", "-(", "NOT (", "(a OR ", "a.", '"', "a=b "]), st.integers(1, 4096))
@settings(max_examples=50, deadline=None)
def test_deep_and_long_texts_are_read_or_refused_as_invalid(piece: str, count: int) -> None:
    for text in (piece * count, piece * count + "a" + ")" * count):
        read_or_refused(text)
