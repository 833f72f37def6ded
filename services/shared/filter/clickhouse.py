"""Compiles a checked filter to a ClickHouse condition with server-side parameters.

Columns come from the schema; every value and map key of the user is a parameter.

Full text is exact by itself: the lowered column is searched for the term, with word ends as `terms` defines them.
Where the column has `TEXT_INDEX` and `PAIR_INDEX`, `hasAllTokens` with what every match has stands before it, so that
the indexes pick the rows and the search runs over those alone. A term that is one whole word, or two characters beyond
ASCII, is a token itself: the index alone answers, and the text is not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.shared.filter.fields import Field, Kind
from services.shared.filter.matcher import holds, threshold
from services.shared.filter.terms import Term
from services.shared.filter.tree import AllOf, AnyOf, Checked, Negation, Predicate, TermMatch, Test, flat

TEXT_INDEX = (
    "INDEX {column}_text {column} TYPE text("
    "tokenizer = 'asciiCJK', preprocessor = translate(lowerUTF8({column}), '_.:;,\\'', '      '))"
)
"""The index for a column with full text, a format string: `TEXT_INDEX.format(column="message")` in CREATE TABLE.

Found with `EXPLAIN indexes = 1` and a count of tokens over every code point, on ClickHouse 26.9:

- `asciiCJK` makes one token of a run of ASCII letters and digits and one of every character beyond ASCII, so that a
  Korean word inside a longer one is found by its syllables. It keeps ASCII words together across `_`, `.`, `:` and `'`
  ("java.net.ConnectException" is one token); the preprocessor makes those spaces, so that a token is exactly what
  `terms` calls a word. `ngrams(2)` finds Korean too, but no single character, and takes each English word apart.
- `hasAllTokens(column, [tokens])` uses it, also for parts written before the index was; it takes the tokens as they
  are, so they are lowered here. `hasToken`, `ILIKE`, `match` and `positionCaseInsensitiveUTF8` do not use it, nor does
  `lowerUTF8(column) LIKE`.
- A term with an open end on one ASCII word (`conn*`) has no whole token, and so reads the column.
- On 1M lines of 80 bytes, 20 of them matching, no cache, two cores: a word or a Korean part of one 15 ms with it, 60 ms
  without. It costs 2 microseconds of CPU a line when written and merged, and half the compressed size of the column.
- `lowerUTF8` equals Python's `str.lower` for all code points but 55 letters newer than Python 3.11's Unicode 14.
"""

# What of lowered ASCII can be seen, as a literal.
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper())
_LITERAL = _VISIBLE.replace("\\", r"\\").replace("'", r"\'")
_PAIRS = (
    f"if(isValidASCII({{column}}), '', translate(lowerUTF8({{column}}), "
    f"'{_LITERAL.replace('{', '{{').replace('}', '}}')}', '{' ' * len(_VISIBLE)}'))"
)
_PAIR_TOKENIZER = "ngrams(2)"

PAIR_INDEX = f"INDEX {{column}}_neighbours {_PAIRS} TYPE text(tokenizer = {_PAIR_TOKENIZER})"
"""The other index for a column with full text, a format string as `TEXT_INDEX` is: each two neighbours beyond ASCII.

By the syllables alone a Korean word is only near: 배송 has those of 송배, and how often each occurs makes most granules
worth reading. As a pair it is a token, so that two syllables are counted without their lines. Lines of ASCII are told
in one pass and have none. On 1M lines of 200 bytes, one in ten Korean: 4 bytes a line, and a count of 15,000 lines
takes a twelfth of the CPU that it took with the syllables and the search. ASCII becomes spaces character by character:
by a regular expression it took 1.4 in place of 0.4 microseconds a line, one in five Korean.
"""

# hasAllTokens takes 64 tokens at most; a row that has 32 of them is rare enough.
_MOST_TOKENS = 32

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]{2,}")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")

_INT64 = range(-(2**63), 2**63)
_ORDER = {
    Test.EQUAL: "=",
    Test.LESS: "<",
    Test.LESS_OR_EQUAL: "<=",
    Test.GREATER: ">",
    Test.GREATER_OR_EQUAL: ">=",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition, and the values of its parameters by name."""

    sql: str
    parameters: dict[str, object]


def compile_clickhouse(tree: Checked | None, *, prefix: str = "p") -> Compiled:
    """The condition for WHERE, in parentheses where it needs them; `true` for None, which matches all.

    Args:
        tree: What `check` returned.
        prefix: How the names of the parameters begin; the rest is a number. Choose one that the rest of the
            statement does not use.
    """
    compiler = _Compiler(prefix)
    # Where NOT stands before what has a part that ClickHouse finds to be true or false by itself (`a = 1 AND a = 2`),
    # no index is used, and without the preprocessor hasAllTokens finds fewer rows: NOT stands before single tests only.
    sql = "true" if tree is None else compiler.condition(flat(tree))
    return Compiled(sql, compiler.parameters)


class _Compiler:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.parameters: dict[str, object] = {}

    def condition(self, tree: Checked) -> str:
        if isinstance(tree, AllOf):
            return f"({' AND '.join(self.condition(operand) for operand in tree.operands)})"
        if isinstance(tree, AnyOf):
            return f"({' OR '.join(self.condition(operand) for operand in tree.operands)})"
        if isinstance(tree, Negation):
            return f"NOT ({self.condition(tree.operand)})"
        if isinstance(tree, TermMatch):
            found = [_null_is_false(field, self._term(field, tree.term)) for field in tree.fields]
            return found[0] if len(found) == 1 else f"({' OR '.join(found)})"
        if tree.field.kind is Kind.LABEL_MAP:
            return self._label(tree)
        if tree.field.kind is Kind.TYPED_MAP:
            return self._typed(tree)
        return _null_is_false(tree.field, self._plain(tree))

    def _bind(self, value: object) -> str:
        """Adds a parameter; returns its placeholder, with the type of the value."""
        name = f"{self._prefix}{len(self.parameters)}"
        if isinstance(value, bool):
            declared = "Bool"
        elif isinstance(value, int) and value in _INT64:
            declared = "Int64"
        elif isinstance(value, int | float):
            value, declared = float(value), "Float64"
        elif isinstance(value, str):
            declared = "String"
        else:
            assert isinstance(value, list)  # noqa: S101 - the compiler binds nothing else
            declared = "Array(Int64)" if isinstance(value[0], int) else "Array(String)"
        self.parameters[name] = value
        return f"{{{name}:{declared}}}"

    def _compare(self, expression: str, test: Test, value: object) -> str:
        if test in _ORDER:
            return f"{expression} {_ORDER[test]} {self._bind(value)}"
        if test is Test.STARTS_WITH:
            return f"startsWith({expression}, {self._bind(value)})"
        if test is Test.ENDS_WITH:
            return f"endsWith({expression}, {self._bind(value)})"
        if test is Test.CONTAINS:
            return f"position({expression}, {self._bind(value)}) > 0"
        return f"position(lowerUTF8({expression}), {self._bind(value)}) > 0"

    def _plain(self, predicate: Predicate) -> str:
        field, column = predicate.field, predicate.field.column
        if predicate.test is Test.PRESENT:
            return f"{column} != {_zero(field)}"
        if field.kind is Kind.ENUM:
            return self._enum(predicate)
        if field.kind is Kind.TIMESTAMP:
            moment = f"fromUnixTimestamp64Nano({self._bind(predicate.value)}, 'UTC')"
            return f"{column} {_ORDER[predicate.test]} {moment}"
        if predicate.test is Test.CONTAINS_IGNORING_CASE and field.text_index:
            return self._term(field, Term(str(predicate.value), starts_open=True, ends_open=True))
        return self._compare(column, predicate.test, threshold(predicate))

    def _enum(self, predicate: Predicate) -> str:
        field = predicate.field
        names = predicate.value
        assert isinstance(names, tuple)  # noqa: S101 - IN holds names
        accepted = [name if field.enum_by_name else number for name, number in field.enum if name in names]
        return f"{field.column} IN {self._bind(accepted)}" if accepted else "false"

    def _label(self, predicate: Predicate) -> str:
        column = predicate.field.column
        if predicate.key is None:
            return f"notEmpty({column})"
        key = self._bind(predicate.key)
        if predicate.test is Test.PRESENT:
            return f"mapContains({column}, {key})"
        return self._entry(column, key, predicate, "")

    def _typed(self, predicate: Predicate) -> str:
        columns = predicate.field.typed_columns
        if predicate.test is Test.PRESENT:
            maps = [columns.string, columns.int64, columns.double, columns.boolean]
            maps += [columns.rest] if columns.rest else []
            key = None if predicate.key is None else self._bind(predicate.key)
            has = [f"notEmpty({each})" if key is None else f"mapContains({each}, {key})" for each in maps]
            return f"({' OR '.join(has)})"
        key = self._bind(predicate.key)
        if isinstance(predicate.value, bool):
            return self._entry(columns.boolean, key, predicate, False)
        if isinstance(predicate.value, int | float):
            whole = self._entry(columns.int64, key, predicate, 0)
            return f"({whole} OR {self._entry(columns.double, key, predicate, 0.0)})"
        return self._entry(columns.string, key, predicate, "")

    def _entry(self, column: str, key: str, predicate: Predicate, absent: object) -> str:
        """The test of one entry. ClickHouse reads an absent one as `absent`, which must match nothing."""
        condition = self._compare(f"{column}[{key}]", predicate.test, predicate.value)
        if not holds(predicate.test, absent, predicate.value):
            return condition
        return f"(mapContains({column}, {key}) AND {condition})"

    def _term(self, field: Field, term: Term) -> str:
        tests = self._indexed(field.column, term) if field.text_index else []
        if not (tests and _is_token(term)):
            lowered = f"lowerUTF8({field.column})"
            if term.bounded_start or term.bounded_end:
                tests.append(f"match({lowered}, {self._bind(_expression(term))})")
            else:
                tests.append(f"position({lowered}, {self._bind(term.text)}) > 0")
        return f"({' AND '.join(tests)})" if len(tests) > 1 else tests[0]

    def _indexed(self, column: str, term: Term) -> list[str]:
        """What the indexes know of a term: every text that has it passes."""
        tests = []
        runs = _BEYOND_ASCII.findall(term.text)
        pairs = dict.fromkeys(run[at : at + 2] for run in runs for at in range(len(run) - 1))
        tokens = [token for token in term.tokens() if not any(token in run for run in runs)]
        if tokens:
            longest = sorted(tokens, key=len, reverse=True)[:_MOST_TOKENS]
            tests.append(f"hasAllTokens({column}, {self._bind(longest)})")
        if pairs:
            found = self._bind(list(pairs)[:_MOST_TOKENS])
            tests.append(f"hasAllTokens({_PAIRS.format(column=column)}, {found}, '{_PAIR_TOKENIZER}')")
        return tests


def _is_token(term: Term) -> bool:
    """Whether the texts that have it are those with one token of an index."""
    if term.bounded_start and term.bounded_end:
        return term.tokens() == (term.text,)
    return len(term.text) <= 2 and _BEYOND_ASCII.fullmatch(term.text) is not None


def _expression(term: Term) -> str:
    """The term as an RE2 regular expression over lowered text."""
    before = "(?:^|[^0-9a-z])" if term.bounded_start else ""
    after = "(?:[^0-9a-z]|$)" if term.bounded_end else ""
    # Nothing but what must be is escaped: ClickHouse looks for the plain text in it before it runs RE2.
    return before + _SPECIAL.sub(r"\\\g<0>", term.text).replace("\0", r"\x00") + after


def _null_is_false(field: Field, condition: str) -> str:
    return f"ifNull({condition}, false)" if field.nullable else condition


def _zero(field: Field) -> str:
    if field.kind in (Kind.STRING, Kind.ID) or (field.kind is Kind.ENUM and field.enum_by_name):
        return "''"
    if field.kind is Kind.TIMESTAMP:
        return "fromUnixTimestamp64Nano(0, 'UTC')"
    return "false" if field.kind is Kind.BOOLEAN else "0"
