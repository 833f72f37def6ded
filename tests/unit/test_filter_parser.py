"""The grammar of filters: how they nest, what values look like, and what errors say."""

from __future__ import annotations

import contextlib
import time

import pytest

from services.shared.errors import InvalidArgumentError
from services.shared.filter import parse, to_text
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


def word(text: str) -> FullText:
    return FullText(text, is_phrase=False)


def compare(path: str, operator: str, kind: LiteralKind, value: str | int | float | bool) -> Comparison:
    return Comparison(tuple(path.split(".")), Operator(operator), Literal(kind, value))


def tree(text: str) -> Expression:
    parsed = parse(text)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_an_empty_filter_says_nothing(text: str) -> None:
    assert parse(text) is None
    assert to_text(None) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a AND b OR c", And((word("a"), Or((word("b"), word("c")))))),
        ("a OR b AND c", And((Or((word("a"), word("b"))), word("c")))),
        ("a b OR c d", And((word("a"), Or((word("b"), word("c"))), word("d")))),
        ("(a AND b) OR c", Or((And((word("a"), word("b"))), word("c")))),
        ("NOT a OR b", Or((Not(word("a")), word("b")))),
        ("-a b", And((Not(word("a")), word("b")))),
        ('-"a b"', Not(FullText("a b", is_phrase=True))),
        ("NOT(a)", Not(word("a"))),
        ("((a))", word("a")),
        ("(a)(b)", And((word("a"), word("b")))),
        ("and or Not", And((word("and"), word("or"), word("Not")))),
        ("ANDROID ORDER NOTE", And((word("ANDROID"), word("ORDER"), word("NOTE")))),
        ("결제 실패", And((word("결제"), word("실패")))),
        ("결제\u3000실패", And((word("결제"), word("실패")))),
        ("don't", word("don't")),
        ("foo-bar /api/v1?x", And((word("foo-bar"), word("/api/v1?x")))),
        ("wow!", word("wow!")),
    ],
)
def test_or_binds_tighter_than_and_and_space_means_and(text: str, expected: Expression) -> None:
    assert tree(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", compare("a", "=", LiteralKind.WORD, "b")),
        ("a!=1", compare("a", "!=", LiteralKind.INTEGER, 1)),
        ("a<-1.5e3", compare("a", "<", LiteralKind.NUMBER, -1500.0)),
        ("a<=100ms", compare("a", "<=", LiteralKind.DURATION, 100_000_000)),
        ("a > 1.5h", compare("a", ">", LiteralKind.DURATION, 5_400_000_000_000)),
        ("a >= 20s", compare("a", ">=", LiteralKind.DURATION, 20_000_000_000)),
        ("a = 0.1ns", compare("a", "=", LiteralKind.DURATION, 0)),
        ("a : b", compare("a", ":", LiteralKind.WORD, "b")),
        ("a = true", compare("a", "=", LiteralKind.BOOLEAN, True)),
        ("a = True", compare("a", "=", LiteralKind.WORD, "True")),
        ('a = "true"', compare("a", "=", LiteralKind.STRING, "true")),
        ("a = 1970-01-01T00:00:01Z", compare("a", "=", LiteralKind.TIMESTAMP, 1_000_000_000)),
        (
            "a = 1970-01-01T09:00:00.000000001+09:00",
            compare("a", "=", LiteralKind.TIMESTAMP, 1),
        ),
        ("a = 1969-12-31T23:59:59.5Z", compare("a", "=", LiteralKind.TIMESTAMP, -500_000_000)),
        ("a = 2026-02-30T00:00:00Z", compare("a", "=", LiteralKind.WORD, "2026-02-30T00:00:00Z")),
        ("a = 1e999", compare("a", "=", LiteralKind.WORD, "1e999")),
        ("a = nan", compare("a", "=", LiteralKind.WORD, "nan")),
        ("url = http://x:80/y", compare("url", "=", LiteralKind.WORD, "http://x:80/y")),
        ("labels.host = 서버", compare("labels.host", "=", LiteralKind.WORD, "서버")),
        ("tags.http.status_code = 500", compare("tags.http.status_code", "=", LiteralKind.INTEGER, 500)),
    ],
)
def test_values_are_typed_by_their_look(text: str, expected: Expression) -> None:
    assert tree(text) == expected


def test_a_literal_keeps_the_text_as_written() -> None:
    parsed = tree("version = 1.50")
    assert isinstance(parsed, Comparison)
    assert parsed.value.text == "1.50"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('labels."k8s.pod/name" = b', ("labels", "k8s.pod/name")),
        ("labels.'a b'.c = b", ("labels", "a b", "c")),
        ('"odd name" = b', ("odd name",)),
        (r'labels."a\"b" = b', ("labels", 'a"b')),
        ('"AND" = b', ("AND",)),
    ],
)
def test_a_segment_in_quotes_may_hold_anything(text: str, path: tuple[str, ...]) -> None:
    parsed = tree(text)
    assert isinstance(parsed, Comparison)
    assert parsed.path == path
    assert parse(to_text(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "value", "starts_open", "ends_open"),
    [
        ('a = "x*"', "x", False, True),
        ("a = *x", "x", True, False),
        ('a = "*x*"', "x", True, True),
        (r'a = "\*x\*"', "*x*", False, False),
        ("a = x*y", "x*y", False, False),
        ("a : *", "", True, True),
        ('a : "*"', "", True, True),
        (r'a = "\*"', "*", False, False),
        ('a = ""', "", False, False),
    ],
)
def test_a_star_at_an_end_is_a_wildcard_unless_escaped(
    text: str, value: str, starts_open: bool, ends_open: bool
) -> None:
    parsed = tree(text)
    assert isinstance(parsed, Comparison)
    literal = parsed.value
    assert (literal.value, literal.starts_open, literal.ends_open) == (value, starts_open, ends_open)
    assert parse(to_text(parsed)) == parsed


def test_escapes_stand_for_their_characters() -> None:
    assert tree(r"""'it\'s\t"\\\n\uAC00'""") == FullText("it's\t\"\\\n가", True)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("a AND", 6, "expected a field, a word, a quoted text or a parenthesis; found the end"),
        ("AND a", 1, "found AND"),
        ("a OR OR b", 6, "found OR"),
        ("a AND )", 7, 'found ")"'),
        ("(a", 3, 'expected ")" for the "(" of character 1; found the end'),
        ("a)", 2, "closes nothing"),
        ("()", 2, 'found ")"'),
        ("level >=", 9, 'expected a value after ">="; found the end'),
        ("level = = 3", 9, 'found "="'),
        ("a = (b OR c)", 5, 'expected a value after "="; found "("'),
        ("a = AND", 5, "needs quotes"),
        ("= 3", 1, 'found "="'),
        ("결제 = 'x", 6, "no end; expected a closing '"),
        (r'x = "C:\dir"', 8, r"write a backslash as \\"),
        (r'x = "\ud800"', 6, "expected"),
        ("now()", 1, "functions"),
        ("a = regex(b)", 5, "functions"),
        ("NOT NOT a", 5, "after NOT; found NOT"),
        ("NOT -a", 5, "second negation"),
        ("---", 2, "needs quotes"),
        ("- a", 2, "what it negates"),
        ("a..b = 1", 1, "empty part"),
        ('labels."x" y', 12, "expected an operator"),
        ('""', 1, "expected a text"),
        ("a \ud800", 3, "surrogate"),
    ],
)
def test_an_error_names_the_character_and_what_was_expected(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(text)
    assert caught.value.reason == "INVALID_FILTER"
    assert caught.value.message.startswith(f"filter, character {position}: ")
    assert says in caught.value.message
    assert [violation.field for violation in caught.value.violations] == ["filter"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a" * 4097, "limit is 4096"),
        ("a " * 201, "more than 200 terms"),
        ("(" * 33 + "a" + ")" * 33, "deeper than 32"),
        ("-(" * 33 + "a" + ")" * 33, "deeper than 32"),
    ],
)
def test_limits_are_told(text: str, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        parse(text)


def test_what_is_just_within_the_limits_is_read() -> None:
    assert parse("a" * 4096) == word("a" * 4096)
    assert parse("(" * 32 + "a" + ")" * 32) == word("a")
    assert parse("a " * 200) == And((word("a"),) * 200)


@pytest.mark.parametrize("piece", ["(", "-(", "a.", '"', "\\", "NOT ", "a OR ", "*", "=", 'a."', "9"])
def test_a_long_filter_of_any_kind_is_read_or_refused_at_once(piece: str) -> None:
    started = time.process_time()
    with contextlib.suppress(InvalidArgumentError):
        parse((piece * 4096)[:4096])
    assert time.process_time() - started < 0.5
