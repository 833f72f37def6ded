"""The characters of a filter: where words and quoted texts begin and end."""

from __future__ import annotations

from dataclasses import dataclass

from services.shared.filter.fault import excerpt, fault

_ENDS_WORD = frozenset("()<>=:")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "*": "*", "n": "\n", "r": "\r", "t": "\t"}
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">", ":")


@dataclass(frozen=True, slots=True)
class Quoted:
    """A text in quotes: its content, and whether an unescaped `*` stands at either end of it."""

    text: str
    star_first: bool
    star_last: bool


class Scanner:
    """A cursor over the text of a filter. `at` counts code points from 0; `position` from 1."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def position(self) -> int:
        """Where the cursor is, as people count: from 1."""
        return self.at + 1

    def peek(self, offset: int = 0) -> str:
        """The character at the cursor plus `offset`; empty at the end."""
        at = self.at + offset
        return self.text[at] if at < len(self.text) else ""

    def skip_space(self) -> None:
        """Moves to the next character that is not white space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def found(self) -> str:
        """What stands at the cursor, for an error."""
        return f"found {excerpt(self.peek())}" if self.peek() else "found the end"

    def operator(self) -> str | None:
        """Takes a comparison operator, if one stands here."""
        for operator in _OPERATORS:
            if self.text.startswith(operator, self.at):
                self.at += len(operator)
                return operator
        return None

    def ends_word(self, *, is_value: bool) -> bool:
        """Whether a bare word cannot go on here. A value may hold colons, as times and addresses do."""
        character = self.peek()
        if not character or character.isspace():
            return True
        if character == "!":
            return self.peek(1) == "="
        return character in _ENDS_WORD and not (is_value and character == ":")

    def bare(self, *, is_value: bool = False, is_segment: bool = False) -> str:
        """Takes a bare word; of a field's path up to the next dot. Empty: none stands here."""
        start = self.at
        while not self.ends_word(is_value=is_value) and not (is_segment and self.peek() == "."):
            self.at += 1
        return self.text[start : self.at]

    def quoted(self) -> Quoted:
        """Takes a text in single or double quotes, whose first stands here."""
        opened, quote = self.position, self.peek()
        self.at += 1
        parts: list[str] = []
        stars: list[bool] = []
        while (character := self.peek()) != quote:
            if not character:
                raise fault(opened, f"this quoted text has no end; expected a closing {quote}.")
            starred = character == "*"
            if character == "\\":
                character = self._escape()
            self.at += 1
            parts.append(character)
            stars.append(starred)
        self.at += 1
        return Quoted("".join(parts), bool(stars) and stars[0], bool(stars) and stars[-1])

    def _escape(self) -> str:
        """The character that an escape stands for; leaves the cursor on the escape's last character."""
        start = self.position
        letter = self.peek(1)
        self.at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        digits = self.text[self.at + 1 : self.at + 5]
        if letter == "u" and len(digits) == 4 and all(c in "0123456789abcdefABCDEF" for c in digits):
            code = int(digits, 16)
            if not 0xD800 <= code <= 0xDFFF:
                self.at += 4
                return chr(code)
        raise fault(start, r"""expected \", \', \\, \*, \n, \r, \t or \uXXXX; write a backslash as \\.""")
