"""Words and phrases of full text: what they match, and where.

A term matches where its text occurs, ignoring case, unless an end of it that is an ASCII letter or digit goes on
in another ASCII letter or digit: `order` is found in "order_id" and "the order:7", not in "reorder" or "orders".
Other scripts have no such ends: 서비 is found in 결제서비스. An open end (`conn*`) may go on.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from services.shared.filter.ast import And, Expression, FullText, Not, Or
from services.shared.filter.fault import fault

_WORD = "0-9a-z"
_TOKENS = re.compile(r"[0-9a-z]+|[^\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Term:
    """A text to look for.

    Args:
        text: In lower case, not empty.
        starts_open: It may begin inside a word.
        ends_open: It may end inside a word.
    """

    text: str
    starts_open: bool = False
    ends_open: bool = False

    @property
    def bounded_start(self) -> bool:
        """Whether no ASCII letter or digit may stand before it."""
        return not self.starts_open and _is_word(self.text[0])

    @property
    def bounded_end(self) -> bool:
        """Whether no ASCII letter or digit may stand after it."""
        return not self.ends_open and _is_word(self.text[-1])

    def pattern(self) -> re.Pattern[str]:
        """Finds it in a text in lower case."""
        return _pattern(self)

    def tokens(self) -> tuple[str, ...]:
        """The whole words and the single characters of other scripts that any matching text has, each once."""
        found = list(_TOKENS.finditer(self.text))
        if found and self.starts_open and found[0].start() == 0 and _is_word(self.text[0]):
            found = found[1:]
        if found and self.ends_open and found[-1].end() == len(self.text) and _is_word(self.text[-1]):
            found = found[:-1]
        return tuple(dict.fromkeys(match[0] for match in found))


def term_of(node: FullText) -> Term:
    """The term that a word or phrase asks for. Raises: InvalidArgumentError for a lone `*`."""
    text = node.text
    if node.is_phrase:
        return Term(text.lower())
    starts_open, ends_open = text.startswith("*"), text.endswith("*")
    text = text[1 if starts_open else 0 : len(text) - 1 if ends_open else None]
    if not text:
        raise fault(node.position, "a lone * matches everything; expected a word with it, or nothing.")
    return Term(text.lower(), starts_open, ends_open)


def highlight_terms(expression: Expression | None) -> tuple[Term, ...]:
    """The words and phrases that make a text match, each once, in order; negated ones are left out."""
    found: dict[Term, None] = {}

    def visit(node: Expression, is_positive: bool) -> None:
        if isinstance(node, And | Or):
            for operand in node.operands:
                visit(operand, is_positive)
        elif isinstance(node, Not):
            visit(node.operand, not is_positive)
        elif isinstance(node, FullText) and is_positive:
            found[term_of(node)] = None

    if expression is not None:
        visit(expression, True)
    return tuple(found)


def find_highlights(text: str, terms: Iterable[Term], most: int | None = None) -> list[tuple[int, int]]:
    """Where `terms` match in `text`: (start, end) in code points, end excluded, ascending, overlaps joined.

    Args:
        text: Where to look.
        terms: What to look for.
        most: How many places to give at most; then no more than ten times as many matches are looked at, of which
            some overlap. None: all.
    """
    lowered = text.lower()
    origins = None if len(lowered) == len(text) else _origins(text)
    # Most terms of a long filter are not there: told at once, where a pattern tries each place.
    matches = heapq.merge(*(_matches(lowered, term.pattern()) for term in terms if term.text in lowered))
    joined: list[tuple[int, int]] = []
    for start, end in itertools.islice(matches, None if most is None else 10 * most):
        if origins is not None:
            start, end = origins[start], origins[end - 1] + 1
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined[:most]


def _matches(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    at = 0
    while match := pattern.search(text, at):
        yield match.span()
        at = match.start() + 1


@lru_cache(maxsize=1024)
def _pattern(term: Term) -> re.Pattern[str]:
    before = f"(?<![{_WORD}])" if term.bounded_start else ""
    after = f"(?![{_WORD}])" if term.bounded_end else ""
    return re.compile(before + re.escape(term.text) + after)


def _is_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _origins(text: str) -> list[int]:
    """For each character of the lowered text the one it came from: one letter (İ) becomes two."""
    return [index for index, character in enumerate(text) for _ in character.lower()]
