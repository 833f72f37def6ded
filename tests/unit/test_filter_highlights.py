"""Where full text matched."""

from __future__ import annotations

import pytest

from services.shared.filter import Term, find_highlights, highlight_terms, parse


def marked(text: str, query: str) -> list[str]:
    return [text[start:end] for start, end in find_highlights(text, highlight_terms(parse(query)))]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Order order_id reorder orders", "order", ["Order", "order"]),
        ("결제서비스오류", "서비", ["서비"]),
        ("오류 오류오류", "오류", ["오류", "오류", "오류"]),
        ("connection refused; Connection  refused", '"connection refused"', ["connection refused"]),
        ("time timeout", "time*", ["time", "time"]),
        ("NullPointerException", "*exception", ["Exception"]),
        ("ABCABC", "*bca*", ["BCA"]),
        ("aaa", "*aa*", ["aaa"]),
        ("İzmir'de ödeme", "de", ["de"]),
        ("x İ y", "y", ["y"]),
        ("a b c", "a OR (b -c) level = x", ["a", "b"]),
        ("a b", "NOT (a NOT b)", ["b"]),
        ("nothing", "else", []),
    ],
)
def test_the_matched_parts_are_found(text: str, query: str, expected: list[str]) -> None:
    assert marked(text, query) == expected


def test_positions_are_code_points() -> None:
    assert find_highlights("😀 결제 done", highlight_terms(parse("결제 done"))) == [(2, 4), (5, 9)]


@pytest.mark.parametrize(
    ("text", "query", "most", "expected"),
    [
        ("a b a b a", "a b", 3, [(0, 1), (2, 3), (4, 5)]),
        ("b a b", "a b", None, [(0, 1), (2, 3), (4, 5)]),
        ("a" * 1_000_000, "*aa*", 100, [(0, 1001)]),
        ("İ a a", "a", 1, [(2, 3)]),
        ("a a", "a", 0, []),
    ],
)
def test_the_first_matches_of_all_terms_together_are_found_and_no_more(
    text: str, query: str, most: int | None, expected: list[tuple[int, int]]
) -> None:
    assert find_highlights(text, highlight_terms(parse(query)), most) == expected


def test_each_term_is_named_once() -> None:
    assert highlight_terms(parse('A a "a" b* -c')) == (Term("a"), Term("b", ends_open=True))
    assert highlight_terms(None) == ()


def test_as_many_places_are_given_as_asked_for_though_matches_overlap() -> None:
    text = "timeout " * 300
    found = find_highlights(text, highlight_terms(parse("timeout timeout*")), 100)
    assert found == [(at * 8, at * 8 + 7) for at in range(100)]
