r"""The filter language: one `string filter` for log search, series, traces, alerts and silences.

Start here: `read_filter(text, schema)` parses and checks; the tree then goes to `clickhouse.compile_clickhouse`
or `matcher.matches`. `terms.highlight_terms` and `terms.find_highlights` say where full text matched.

The language is AIP-160:

    filter     = [ expression ]
    expression = factor { [ "AND" ] factor }            nothing between two factors means AND
    factor     = term { "OR" term }                     OR binds tighter than AND
    term       = [ "NOT" | "-" ] simple                 "-" stands right before what it negates
    simple     = "(" expression ")" | path operator value | word | quoted
    path       = segment { "." segment }                a segment with odd characters is quoted
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
    value      = word | quoted

    level >= WARN service = "pay"                       both
    a AND b OR c                                        a, and one of b and c
    -timeout NOT (status_code < 500)                    neither
    timeout "connection refused" 결제                    full text: all three
    conn* *exception                                    words that begin or end so
    path = "/api/*"   path = "*.css"   path = "*api*"   begins, ends, contains
    path = "\*"                                         a star
    message : "refused"                                 contains, ignoring case
    labels.host = "a"   labels."k8s.pod/name" = b       a key of a map is all after the first dot
    labels:host   labels.host:*   user_id:*             the key, or the value, is there
    tags.http.status_code >= 500   tags.cache.hit = true
    duration > 1.5h   timestamp >= 2026-01-31T09:00:00Z

What is meant by

- words: they hold any Unicode; they end at white space, parentheses, `=`, `<`, `>`, `!=` and, except in values,
  `:`. AND, OR and NOT are capital. White space is Unicode's. Quotes are single or double, with the escapes
  \" \' \\ \* \n \r \t \uXXXX. Functions (`f(x)`) are refused.
- full text: case does not count. An ASCII word matches whole words (`order` in "order_id", not in "reorder"), other
  scripts match inside words (서비 in 결제서비스); see `terms`. A phrase matches as it stands, spaces included.
- strings: `=` counts case and takes a `*` at either end; `<` orders by code point; `:` ignores case. A number or
  time without quotes is its text.
- numbers have no quotes; `:` means `=`, as it does for times, durations and enums.
- enums: case does not count, order is the schema's; a value without a name (unspecified) is in no range.
- ids: hexadecimal, case does not count, `*` at the end only.
- typed maps: a number is compared with the integers and the doubles, true and false with the booleans, all else,
  and all in quotes, with the strings. "500" and 500 differ.
- absence: an absent key, or null, passes no test: `=` and `<` are false and `!=`, which is NOT `=`, is true. Plain
  fields without null are zero or empty; `field:*` asks for more than that.
"""

from __future__ import annotations

from services.shared.filter.ast import Expression
from services.shared.filter.check import check
from services.shared.filter.fields import Field, Kind, Schema, TypedColumns
from services.shared.filter.matcher import matches
from services.shared.filter.parser import parse
from services.shared.filter.printer import to_text
from services.shared.filter.terms import Term, find_highlights, highlight_terms
from services.shared.filter.tree import Checked


def read_filter(text: str, schema: Schema) -> Checked | None:
    """Parses and checks a filter; None when it says nothing. Raises: InvalidArgumentError, INVALID_FILTER."""
    expression = parse(text)
    return None if expression is None else check(expression, schema)


__all__ = [
    "Checked",
    "Expression",
    "Field",
    "Kind",
    "Schema",
    "Term",
    "TypedColumns",
    "check",
    "find_highlights",
    "highlight_terms",
    "matches",
    "parse",
    "read_filter",
    "to_text",
]
