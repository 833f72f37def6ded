"""Hostile texts: values, filters, page tokens, resource names, and the secret that must never be logged."""

from __future__ import annotations

import base64
import json
from random import Random

SECRET = "fuzzsecret-5e1b0c77"
"""Part of everything that a caller would keep to itself: tokens, cookies, passwords, web hook secrets."""

ODD = (
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "a\r\nset-cookie: x=1\r\n\r\n",
    "\x1b[2J\x1b[31m",
    "\u202eevil\u2066",
    "\ufeffbom",
    "\ufffe\uffff",
    "\U0010ffff",
    "é" + "\u0301" * 300,
    "결제서비스",
    "😀" * 64,
    "İıſK",
    "'; DROP TABLE logs; --",
    "{p0:String}",
    "%s%n%x{0}{}",
    "${jndi:ldap://127.0.0.1/a}",
    "../../../../etc/passwd",
    "..%2f..%2f",
    "\\",
    '"',
    "`",
    "NaN",
    "-Infinity",
    "1e999",
    "0x7fffffffffffffff",
    "9" * 400,
    "-0",
    "null",
    "true",
    "undefined",
    "<script>alert(1)</script>",
    "[" * 300,
    "(((((" * 100,
    "a" * 256,
    "b" * 4097,
    "c" * 70_000,
    "*",
    "**",
    "-",
    "/",
    "//",
    "alertRules/",
    "airis.metrics.v1",
)
WORDS = (
    "fuzz.requests",
    "fuzz.latency",
    "checkout",
    "pay",
    "timeout",
    "배송",
    "host",
    "GET /cart",
    "frontend",
    "INFO",
    "ms",
    "kitchen",
    "user-1",
)
_FIELDS = (
    "service", "level", "message", "labels.host", 'labels."k8s.pod/name"', "metadata.size", "duration", "duration_ms",
    "status", "status_code", "timestamp", "start_time", "trace_id", "span_id", "tags.http.status_code", "kind",
    "metric",
    "unit", "host", "severity", "state", "rule", "enabled", "user_id", "url", "method", "operation", "display_name",
    "nothing", "labels", "tags", '"odd key"', "a.b.c.d",
)  # fmt: skip
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", ":", " = ", " : ", "==", "=~", "<>", "")
_VALUES = (
    "pay", '"pay"', "'a b'", "500", "-1", "1.5", "1e308", "1e999", "NaN", "true", "WARN", "FIRING", "*", "a*", "*b",
    "*c*",
    '"\\*"', '"\\u0000"', '"\\ud800"', "100ms", "1.5h", "99999999999h", "-1s", "2026-01-31T09:00:00Z",
    "9999-12-31T23:59:59Z",
    "0000-00-00T00:00:00Z", "4bf92f3577b34da6a3ce929d0e0e4736", "zz", "배송", "0", "9223372036854775808", "(", '"',
    "AND",
)  # fmt: skip


def text(rng: Random) -> str:
    """Any text that UTF-8 can carry."""
    choice = rng.random()
    if choice < 0.45:
        return rng.choice(ODD)
    if choice < 0.6:
        return rng.choice(WORDS)
    if choice < 0.7:
        return f"{SECRET}-{rng.getrandbits(32):08x}"
    if choice < 0.85:
        return "".join(_character(rng) for _ in range(rng.randrange(40)))
    return rng.choice(ODD) + rng.choice(WORDS) + rng.choice(ODD)


def filter_text(rng: Random) -> str:
    """A filter: of the grammar, nearly so, or nothing like it."""
    choice = rng.random()
    if choice < 0.05:
        return text(rng)
    if choice < 0.1:
        return _deep(rng)
    whole = _expression(rng, 0)
    if rng.random() < 0.3:
        at = rng.randrange(len(whole) + 1)
        whole = whole[:at] + rng.choice(("(", ")", '"', "'", "\\", ".", "NOT ", "-", " OR ", "\0", "*")) + whole[at:]
    if rng.random() < 0.1:
        whole = whole[: rng.randrange(len(whole) + 1)]
    return whole


def page_token(rng: Random) -> str:
    """No token that any server made, but nearly."""
    choice = rng.random()
    if choice < 0.2:
        return text(rng)
    cursor: list[object] = [rng.choice((0, 1, -1, 2**63, 2**64, 1e400, None, "x", [], {}, True)) for _ in range(4)]
    made: object = rng.choice(([], {}, 0, "x", None, ["0" * 16, cursor], ["0" * 16, cursor, 1], [cursor], [None, None]))
    encoded = json.dumps(made).encode()
    if choice < 0.3:
        encoded = b"[" * rng.choice((10, 1000, 20_000))
    if choice < 0.4:
        encoded = rng.randbytes(rng.randrange(60))
    return base64.urlsafe_b64encode(encoded).decode().rstrip("=" if rng.random() < 0.7 else "A")


def resource_name(rng: Random, collection: str = "") -> str:
    """A name of a resource that may exist, or of none."""
    collection = collection or rng.choice(
        ("alertRules", "silences", "channels", "escalationPolicies", "alerts", "logPipelines")
    )
    choice = rng.random()
    if choice < 0.7:
        return f"{collection}/{identifier(rng)}"
    if choice < 0.8:
        return rng.choice(
            ("-", "", "/", f"{collection}", f"{collection}/-", f"{collection}/a/b", f"{collection}/" * 50)
        )
    return f"{collection}/{text(rng)}"


def identifier(rng: Random) -> str:
    """One of few ids, so that calls meet what others have made."""
    return f"fuzz-{rng.randrange(24)}"


def _expression(rng: Random, depth: int) -> str:
    parts = [_term(rng, depth) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6)))]
    joined = parts[0]
    for part in parts[1:]:
        joined += rng.choice((" AND ", " OR ", " ", "\t", " and ")) + part
    return joined


def _term(rng: Random, depth: int) -> str:
    sign = rng.choice(("", "", "", "", "NOT ", "-"))
    if depth < 4 and rng.random() < 0.15:
        return f"{sign}({_expression(rng, depth + 1)})"
    if rng.random() < 0.2:
        return sign + rng.choice((*WORDS, '"connection refused"', "conn*", "*exception", '""', "*"))
    value = rng.choice(_VALUES) if rng.random() < 0.9 else json.dumps(text(rng), ensure_ascii=False)
    return sign + rng.choice(_FIELDS) + rng.choice(_OPERATORS) + value


def _deep(rng: Random) -> str:
    count = rng.choice((31, 32, 33, 500, 4000))
    kind = rng.randrange(4)
    if kind == 0:
        return "(" * count + "a" + ")" * count
    if kind == 1:
        return "NOT (" * count + "a" + ")" * count
    if kind == 2:
        return " OR ".join(["a"] * count)
    return "a" + ".b" * count + "=1"


def _character(rng: Random) -> str:
    code = rng.randrange(rng.choice((0x80, 0x800, 0x10000, 0x110000)))
    return "?" if 0xD800 <= code <= 0xDFFF else chr(code)
