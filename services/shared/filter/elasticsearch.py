r"""Compiles a checked filter to Elasticsearch's query DSL, for indices that are mapped as said here.

- STRING and ID: `keyword`. A text of several lines (one of `texts`) is analyzed by `ANALYSIS` in the field that `texts`
  names, and is a `keyword` in `<column>.keyword`. NUMBER and DURATION: `double`. INTEGER: `long`. TIMESTAMP:
  `date_nanos`. ENUM: a number, or the name in a `keyword`.
- A zero value (an empty text, 0, false) may be left out of a document; null of a nullable field must be.
- LABEL_MAP: an object without subobjects, each key (see `field_key`) a `keyword`. TYPED_MAP: one such object a type.
  `<name>_keys` is a `keyword` with all keys of either.

Full text is exact by itself. `ANALYSIS` makes one token of a run of ASCII letters and digits and one of every other
character, spaces too, all in lower case: a term occurs, with word ends as `terms` defines them, exactly where its
tokens follow each other. Only the case of Greek differs: a final sigma is any sigma there.

A `keyword` has no value longer than `LONGEST_KEYWORD`: such texts are kept and found by full text only.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from services.shared.filter.fields import Field, Kind
from services.shared.filter.matcher import holds, threshold
from services.shared.filter.terms import Term
from services.shared.filter.tree import AllOf, AnyOf, Checked, Negation, Predicate, TermMatch, Test, flat

Query = dict[str, Any]

LONGEST_KEYWORD = 8191
"""Characters; four bytes each, they fit the 32,766 bytes of a Lucene term."""

ANALYSIS: Query = {
    "char_filter": {
        # The letters beyond ASCII whose lower case has an ASCII letter, and the sigma that depends on what follows.
        "airis_letters": {"type": "mapping", "mappings": ["\u212a=>k", "\u0130=>i\u0307", "\u03c2=>\u03c3"]}
    },
    "tokenizer": {"airis_pieces": {"type": "pattern", "pattern": "[0-9a-zA-Z]+|[^0-9a-zA-Z]", "group": 0}},
    "filter": {"airis_longest": {"type": "truncate", "length": LONGEST_KEYWORD}},
    "analyzer": {
        "airis_exact": {
            "type": "custom",
            "char_filter": ["airis_letters"],
            "tokenizer": "airis_pieces",
            "filter": ["lowercase", "airis_longest"],
        }
    },
}
"""Settings of an index, under `analysis`; the analyzer is `airis_exact`."""

_ALL: Query = {"match_all": {}}
_NONE: Query = {"match_none": {}}
_PIECES = re.compile(r"[0-9a-z]+|[^0-9a-z]")
_BOUNDS = {Test.LESS: "lt", Test.LESS_OR_EQUAL: "lte", Test.GREATER: "gt", Test.GREATER_OR_EQUAL: "gte"}
# A filter may have a text of 4,096 characters. Each is one of a few letters, so that the work grows with their number.
_MOST_DETERMINIZED = 1_000_000
_INT64 = range(-(2**63), 2**63)
_RESERVED = re.compile(r"[!-/:-@\[-`{-~]")


def compile_elasticsearch(tree: Checked | None, *, texts: Mapping[str, str]) -> Query:
    """The query for a `filter` clause; it matches all for None.

    Args:
        tree: What `check` returned.
        texts: For the columns of long texts the field that is analyzed by `ANALYSIS`.
    """
    # Elasticsearch limits how deep a query is, and not how wide.
    return _ALL if tree is None else _Compiler(texts).query(flat(tree))


def field_key(key: str) -> str:
    """The name of the field of a map's key: the key, unless Elasticsearch takes no such name."""
    return key if key.strip() and not key.startswith("%") else "%" + key.encode().hex()


def key_of(name: str) -> str:
    """The key that `field_key` made the name from."""
    return bytes.fromhex(name[1:]).decode() if name.startswith("%") else name


def moment_text(nanoseconds: int) -> str:
    """Nanoseconds since 1970, which must not be negative, as a `date_nanos` takes them, in UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


class _Compiler:
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def query(self, tree: Checked) -> Query:
        if isinstance(tree, AllOf):
            return self._all(tree)
        if isinstance(tree, AnyOf):
            return _any([self.query(operand) for operand in tree.operands])
        if isinstance(tree, Negation):
            return _not(self.query(tree.operand))
        if isinstance(tree, TermMatch):
            return _any([self._term(field, tree.term) for field in tree.fields])
        if tree.field.is_map:
            return _map(tree)
        return self._plain(tree)

    def _all(self, tree: AllOf) -> Query:
        """One `bool` for all operands, and for those of the deepest `AnyOf` among them."""
        deepest = max((each for each in tree.operands if isinstance(each, AnyOf)), key=_depth, default=None)
        clauses: Query = {"filter": [], "must_not": []}
        for operand in tree.operands:
            if operand is deepest:
                clauses |= _any([self.query(each) for each in deepest.operands])["bool"]
            elif isinstance(operand, Negation):
                clauses["must_not"].append(self.query(operand.operand))
            else:
                clauses["filter"].append(self.query(operand))
        return {"bool": {name: value for name, value in clauses.items() if value}}

    def _plain(self, predicate: Predicate) -> Query:
        field, test, value = predicate.field, predicate.test, threshold(predicate)
        if test is Test.PRESENT:
            return _present(field)
        if field.kind is Kind.ENUM:
            return _enum(predicate)
        if field.kind is Kind.TIMESTAMP:
            return _moment(field, test, value)
        if field.column in self._texts:
            if test is Test.CONTAINS_IGNORING_CASE:
                return self._term(field, Term(str(value), starts_open=True, ends_open=True))
            found = _text(f"{field.column}.keyword", test, str(value))
        elif field.kind in (Kind.STRING, Kind.ID):
            found = _text(field.column, test, str(value))
        elif field.kind is Kind.BOOLEAN:
            found = {"term": {field.column: value}}
        elif field.kind is Kind.INTEGER:
            found = _whole(field.column, test, value)
        else:
            found = _real(field.column, test, value)
        if field.nullable or not holds(test, _zero(field), value):
            return found
        return _any([found, _not({"exists": {"field": field.column}})])

    def _term(self, field: Field, term: Term) -> Query:
        """The pieces of the term, one behind the other; an open end that is in a word may go on in it."""
        if field.column not in self._texts:
            return _pattern(field.column, term)
        column = self._texts[field.column]
        text = term.text.replace("\u03c2", "\u03c3")
        pieces = _PIECES.findall(text)
        opens = term.starts_open and _is_word(pieces[0])
        ends = term.ends_open and _is_word(pieces[-1])
        if not opens and not ends:
            return {"match_phrase": {column: text}} if len(pieces) > 1 else {"term": {column: text}}
        if len(pieces) == 1:
            return _piece(column, text, opens, ends)
        clauses: list[Query] = [{"span_term": {column: piece}} for piece in pieces]
        if opens:
            clauses[0] = {"span_multi": {"match": _piece(column, pieces[0], True, False)}}
        if ends:
            clauses[-1] = {"span_multi": {"match": _piece(column, pieces[-1], False, True)}}
        return {"span_near": {"clauses": clauses, "slop": 0, "in_order": True}}


def _depth(tree: Checked) -> int:
    return 1 + max(map(_depth, tree.operands)) if isinstance(tree, AllOf | AnyOf) else 0


def _any(queries: list[Query]) -> Query:
    return queries[0] if len(queries) == 1 else {"bool": {"should": queries, "minimum_should_match": 1}}


def _not(query: Query) -> Query:
    return {"bool": {"must_not": [query]}}


def _present(field: Field) -> Query:
    """There, and not zero: whether a document has its zeros does not matter."""
    there: Query = {"exists": {"field": field.column}}
    if field.kind in (Kind.NUMBER, Kind.DURATION, Kind.INTEGER):
        zero: Query = {"range": {field.column: {"gte": -0.0, "lte": 0.0}}}
    elif field.kind is Kind.TIMESTAMP:
        return {"range": {field.column: {"gt": moment_text(0)}}}
    elif field.kind is Kind.ENUM:
        zero = {"term": {field.column: "" if field.enum_by_name else 0}}
    else:
        zero = {"term": {field.column: _zero(field)}}
    return {"bool": {"filter": [there], "must_not": [zero]}}


def _enum(predicate: Predicate) -> Query:
    field, names = predicate.field, predicate.value
    assert isinstance(names, tuple)  # noqa: S101 - IN holds names
    accepted = [name if field.enum_by_name else number for name, number in field.enum if name in names]
    return {"terms": {field.column: accepted}} if accepted else _NONE


def _moment(field: Field, test: Test, value: Any) -> Query:
    if value < 0:
        # date_nanos begins in 1970.
        return _ALL if test in (Test.GREATER, Test.GREATER_OR_EQUAL) else _NONE
    moment = moment_text(value)
    bounds = {"gte": moment, "lte": moment} if test is Test.EQUAL else {_BOUNDS[test]: moment}
    return {"range": {field.column: bounds}}


def _map(predicate: Predicate) -> Query:
    field, key, value, test = predicate.field, predicate.key, predicate.value, predicate.test
    keys = f"{field.name}_keys"
    if key is None:
        return {"exists": {"field": keys}}
    if test is Test.PRESENT:
        return _text(keys, Test.EQUAL, key)
    name = field_key(key)
    if field.kind is Kind.LABEL_MAP:
        return _text(f"{field.column}.{name}", test, str(value))
    columns = field.typed_columns
    if isinstance(value, bool):
        return {"term": {f"{columns.boolean}.{name}": value}}
    if isinstance(value, int | float):
        return _any([_whole(f"{columns.int64}.{name}", test, value), _real(f"{columns.double}.{name}", test, value)])
    return _text(f"{columns.string}.{name}", test, str(value))


def _text(column: str, test: Test, value: str) -> Query:
    if test is Test.EQUAL:
        return {"term": {column: value}} if len(value) <= LONGEST_KEYWORD else _NONE
    if test in _BOUNDS:
        return {"range": {column: {_BOUNDS[test]: value}}}
    if test is Test.STARTS_WITH:
        return {"prefix": {column: value}}
    if test is Test.ENDS_WITH:
        return _regexp(column, ".*" + _escaped(value))
    if test is Test.CONTAINS:
        return _regexp(column, f".*{_escaped(value)}.*")
    return _pattern(column, Term(value, starts_open=True, ends_open=True))


def _regexp(column: str, pattern: str) -> Query:
    """Not `wildcard`, which takes no more than about 2,000 characters."""
    return {"regexp": {column: {"value": pattern, "flags": "NONE", "max_determinized_states": _MOST_DETERMINIZED}}}


def _escaped(text: str) -> str:
    return _RESERVED.sub(r"\\\g<0>", text)


def _whole(column: str, test: Test, value: Any) -> Query:
    """A test of a `long`, for any number: the nearest integers that pass."""
    if test is Test.EQUAL:
        return {"term": {column: int(value)}} if value == math.floor(value) and int(value) in _INT64 else _NONE
    low, high = _INT64[0], _INT64[-1]
    if test is Test.LESS:
        high = math.ceil(value) - 1
    elif test is Test.LESS_OR_EQUAL:
        high = math.floor(value)
    elif test is Test.GREATER:
        low = math.floor(value) + 1
    else:
        low = math.ceil(value)
    low, high = max(low, _INT64[0]), min(high, _INT64[-1])
    return {"range": {column: {"gte": low, "lte": high}}} if low <= high else _NONE


def _real(column: str, test: Test, value: Any) -> Query:
    """A test of a `double`, for any number: an integer need not be one, and Lucene's -0.0 is less than 0.0."""
    nearest = float(value)
    if nearest != value:
        if test is Test.EQUAL:
            return _NONE
        is_upper = test in (Test.LESS, Test.LESS_OR_EQUAL)
        if nearest < value:
            test = Test.LESS_OR_EQUAL if is_upper else Test.GREATER
        else:
            test = Test.LESS if is_upper else Test.GREATER_OR_EQUAL
    if test is Test.EQUAL:
        return {"range": {column: {"gte": nearest or -0.0, "lte": nearest or 0.0}}}
    if nearest == 0.0:
        nearest = 0.0 if test in (Test.GREATER, Test.LESS_OR_EQUAL) else -0.0
    return {"range": {column: {_BOUNDS[test]: nearest}}}


def _piece(column: str, piece: str, opens: bool, ends: bool) -> Query:
    if opens:
        return _regexp(column, f".*{piece}{'.*' if ends else ''}")
    return {"prefix": {column: piece}}


def _pattern(column: str, term: Term) -> Query:
    """The term in a `keyword`, ignoring case: each character as any that it is the lower case of."""
    before = "(.*[^0-9a-zA-Z\u212a])?" if term.bounded_start else ".*"
    after = "([^0-9a-zA-Z\u212a].*)?" if term.bounded_end else ".*"
    wanted = re.sub(r"i\u0307|[\s\S]", lambda found: _either_case(found[0]), term.text)
    return _regexp(column, before + wanted + after)


def _either_case(character: str) -> str:
    forms = [character, *_capitals().get(character, ())]
    escaped = [_escaped(form) for form in forms]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


@lru_cache(maxsize=1)
def _capitals() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        if (lowered := character.lower()) != character:
            found.setdefault(lowered, []).append(character)
    found["\u03c2"] = found["\u03c3"]
    return found


def _is_word(piece: str) -> bool:
    return piece.isascii() and piece.isalnum()


def _zero(field: Field) -> Any:
    if field.kind in (Kind.STRING, Kind.ID):
        return ""
    return False if field.kind is Kind.BOOLEAN else 0
