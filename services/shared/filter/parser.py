"""Reads a filter, after AIP-160. The grammar stands in the package's docstring."""

from __future__ import annotations

from collections.abc import Callable

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
from services.shared.filter.literals import read_bare
from services.shared.filter.scanner import Quoted, Scanner

KEYWORDS = frozenset({"AND", "OR", "NOT"})


def parse(text: str, *, max_length: int = 4096, max_terms: int = 200, max_depth: int = 32) -> Expression | None:
    """Reads a filter.

    Args:
        text: The filter; empty or white space says nothing.
        max_length: The longest text, in code points.
        max_terms: The most comparisons, words and phrases.
        max_depth: The deepest nesting of parentheses.

    Returns:
        The tree, or None when the filter says nothing.

    Raises:
        InvalidArgumentError: It is not a filter; names the character, from 1, and what was expected there.
    """
    if len(text) > max_length:
        raise fault(None, f"it has {len(text)} characters; the limit is {max_length}. Shorten it.")
    for index, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise fault(index + 1, "expected Unicode text; found half of a surrogate pair.")
    return _Parser(text, max_terms, max_depth).filter()


class _Parser:
    def __init__(self, text: str, max_terms: int, max_depth: int) -> None:
        self._scanner = Scanner(text)
        self._max_terms = max_terms
        self._max_depth = max_depth
        self._terms = 0
        self._depth = 0

    def filter(self) -> Expression | None:
        self._scanner.skip_space()
        if not self._scanner.peek():
            return None
        tree = self._expression()
        if self._scanner.peek():
            raise fault(self._scanner.position, 'expected the end or "AND"; this ")" closes nothing.')
        return tree

    def _expression(self) -> Expression:
        """Sequences joined by AND, or by nothing but space, which means the same."""
        operands = [self._factor()]
        while self._scanner.peek() not in ("", ")"):
            self._keyword("AND")
            operands.append(self._factor())
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _factor(self) -> Expression:
        operands = [self._term()]
        while self._keyword("OR"):
            operands.append(self._term())
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _term(self) -> Expression:
        scanner = self._scanner
        if self._keyword("NOT"):
            return Not(self._simple("after NOT"))
        if scanner.peek() == "-":
            scanner.at += 1
            if not scanner.peek() or scanner.peek().isspace():
                raise fault(scanner.position, 'expected, right after "-", what it negates.')
            return Not(self._simple('after "-"'))
        return self._simple("")

    def _simple(self, where: str) -> Expression:
        scanner = self._scanner
        expected = " ".join(filter(None, ["expected a field, a word, a quoted text or a parenthesis", where]))
        start = scanner.position
        if scanner.peek() == "(":
            return self._group()
        if scanner.peek() == "-":
            raise fault(start, f'{expected}; found a second negation. A text that begins with "-" needs quotes.')
        tree: Expression
        if scanner.peek() in ('"', "'"):
            tree = self._after_quoted(start, scanner.quoted())
        else:
            word = scanner.bare(is_segment=True)
            if word in KEYWORDS and scanner.peek() != ".":
                raise fault(start, f"{expected}; found {word}.")
            if not word and scanner.peek() != ".":
                raise fault(start, f"{expected}; {scanner.found()}.")
            tree = self._after_word(start, word)
        scanner.skip_space()
        return tree

    def _group(self) -> Expression:
        scanner = self._scanner
        opened = scanner.position
        self._depth += 1
        if self._depth > self._max_depth:
            raise fault(opened, f"parentheses are nested deeper than {self._max_depth}; flatten the filter.")
        scanner.at += 1
        scanner.skip_space()
        tree = self._expression()
        if scanner.peek() != ")":
            raise fault(scanner.position, f'expected ")" for the "(" of character {opened}; {scanner.found()}.')
        self._depth -= 1
        scanner.at += 1
        scanner.skip_space()
        return tree

    def _after_quoted(self, start: int, quoted: Quoted) -> Expression:
        """A quoted text is the first segment of a path when a dot or an operator follows, else a phrase."""
        path = [quoted.text]
        if self._segments(path):
            return self._field_only(start, tuple(path))
        return self._compare_or(start, tuple(path), lambda: self._phrase(start, quoted))

    def _phrase(self, start: int, quoted: Quoted) -> FullText:
        if not quoted.text:
            raise fault(start, "expected a text to look for between these quotes.")
        return FullText(quoted.text, is_phrase=True, position=start)

    def _after_word(self, start: int, word: str) -> Expression:
        scanner = self._scanner
        path = [word]
        has_quotes = self._segments(path)
        if scanner.peek() == "(":
            raise self._function(start, ".".join(path))
        if has_quotes:
            return self._field_only(start, tuple(path))
        whole = scanner.text[start - 1 : scanner.at]
        return self._compare_or(start, tuple(path), lambda: FullText(whole, is_phrase=False, position=start))

    def _segments(self, path: list[str]) -> bool:
        """Takes the further segments of a path; tells whether one of them was in quotes."""
        scanner = self._scanner
        has_quotes = False
        while scanner.peek() == ".":
            scanner.at += 1
            if scanner.peek() in ('"', "'") and scanner.peek():
                path.append(scanner.quoted().text)
                has_quotes = True
            else:
                path.append(scanner.bare(is_segment=True))
        return has_quotes

    def _field_only(self, start: int, path: tuple[str, ...]) -> Expression:
        def missing() -> Expression:
            raise fault(
                self._scanner.position,
                f"expected an operator (= != < <= > >= :) after the field {excerpt('.'.join(path))}; "
                f"{self._scanner.found()}.",
            )

        return self._compare_or(start, path, missing)

    def _compare_or(self, start: int, path: tuple[str, ...], otherwise: Callable[[], Expression]) -> Expression:
        scanner = self._scanner
        self._terms += 1
        if self._terms > self._max_terms:
            raise fault(start, f"there are more than {self._max_terms} terms; make the filter smaller.")
        scanner.skip_space()
        symbol = scanner.operator()
        if symbol is None:
            return otherwise()
        if not all(path):
            raise fault(start, f"expected a field; {excerpt('.'.join(path))} has an empty part between dots.")
        scanner.skip_space()
        value_position = scanner.position
        return Comparison(path, Operator(symbol), self._value(symbol), start, value_position)

    def _value(self, symbol: str) -> Literal:
        scanner = self._scanner
        start = scanner.position
        if scanner.peek() in ('"', "'") and scanner.peek():
            return _string(scanner.quoted())
        word = scanner.bare(is_value=True)
        if not word:
            raise fault(start, f'expected a value after "{symbol}"; {scanner.found()}.')
        if word in KEYWORDS:
            raise fault(start, f'expected a value after "{symbol}"; found {word}, which needs quotes as a value.')
        if scanner.peek() == "(":
            raise self._function(start, word)
        return read_bare(word)

    def _function(self, start: int, name: str) -> Exception:
        return fault(
            start,
            f"functions such as {excerpt(name + '()')} are not supported; expected a field, a word or a value "
            'followed by space before "(".',
        )

    def _keyword(self, keyword: str) -> bool:
        """Takes a keyword, if it stands here as a word of its own, and the space after it."""
        scanner = self._scanner
        if not scanner.text.startswith(keyword, scanner.at):
            return False
        after = scanner.peek(len(keyword))
        if after and not after.isspace() and after not in "()\"'":
            return False
        scanner.at += len(keyword)
        scanner.skip_space()
        return True


def _string(quoted: Quoted) -> Literal:
    text = quoted.text
    if text == "*" and quoted.star_first:
        return Literal(LiteralKind.STRING, "", starts_open=True, ends_open=True, text=text)
    value = text[1 if quoted.star_first else 0 : len(text) - 1 if quoted.star_last else None]
    return Literal(LiteralKind.STRING, value, quoted.star_first, quoted.star_last, text)
