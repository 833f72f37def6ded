"""What a schema makes of a filter: fields found, values typed, precise refusals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.shared.errors import InvalidArgumentError
from services.shared.filter import Field, Kind, Schema, matches, read_filter

LEVELS = (("DEBUG", 1), ("INFO", 2), ("WARN", 3), ("ERROR", 4), ("FATAL", 5))
LOGS = Schema.of(
    [
        Field("message", Kind.STRING),
        Field("service", Kind.STRING),
        Field("level", Kind.ENUM, enum=LEVELS),
        Field("trace_id", Kind.ID),
        Field("status_code", Kind.INTEGER),
        Field("duration_ms", Kind.NUMBER),
        Field("duration", Kind.DURATION, unit_nanoseconds=1_000_000),
        Field("timestamp", Kind.TIMESTAMP),
        Field("enabled", Kind.BOOLEAN),
        Field("score", Kind.NUMBER, nullable=True),
        Field("labels", Kind.LABEL_MAP),
        Field("metadata", Kind.TYPED_MAP),
    ],
    full_text=["message"],
    aliases={"severity": "level", "host": "labels.host", "attributes": "metadata"},
)
SERIES = Schema.of([Field("kind", Kind.STRING), Field("labels", Kind.LABEL_MAP)], bare_keys="labels")

RECORD: dict[str, Any] = {
    "message": "Payment order_id=7 결제서비스오류 reorder",
    "service": "pay",
    "level": "WARN",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "status_code": 503,
    "duration_ms": 120.5,
    "duration": 120.5,
    "timestamp": datetime(2026, 1, 31, 9, tzinfo=UTC),
    "enabled": True,
    "labels": {"host": "a-1", "path": "/API/x", "empty": ""},
    "metadata": {"n": 5, "f": 0.5, "s": "5", "b": False, "http.status_code": 500, "list": [1]},
}


@pytest.mark.parametrize(
    "text",
    [
        "level >= WARN",
        "level = warn",
        'severity < "ERROR"',
        "level : WARN",
        "level != ERROR",
        "service = p*",
        "service = '*y'",
        'service = "*a*"',
        "service != x*",
        "message : PAYMENT",
        "payment",
        "ORDER",
        "order_id",
        '"order_id=7 결제"',
        "서비",
        "pay*",
        "*order",
        "-pay",
        "trace_id = 0AF7651916CD43DD8448EB211C80319C",
        "trace_id = 0af76*",
        "trace_id:*",
        "status_code > 500 status_code:503",
        "duration_ms > 120 AND duration_ms < 121",
        "duration > 120ms AND duration < 0.2s",
        'duration = "120500us"',
        'timestamp >= "2026-01-31T09:00:00Z" timestamp < 2026-01-31T18:00:01+09:00',
        "enabled = true enabled != false",
        "labels.host = a-1 host = a* labels:host labels.host:* labels:*",
        'labels.path : "/api"',
        'labels.empty = "" labels.empty:* NOT labels.gone = ""',
        'labels.gone != "x" NOT labels.gone < "x" NOT labels:gone',
        "metadata.n = 5 metadata.n >= 4.5 metadata.n < 6 metadata.n:5",
        'NOT metadata.n = "5" metadata.s = "5" NOT metadata.s = 5',
        "metadata.f = 0.5 metadata.b = false NOT metadata.b = 0 NOT metadata.n = true",
        "attributes.http.status_code = 500 metadata:list metadata.list:* metadata.gone != 1",
        "NOT score < 5 NOT score:* score != 5",
        "NOT user",
    ],
)
def test_a_record_matches_what_is_true_of_it(text: str) -> None:
    assert matches(read_filter(text, LOGS), RECORD)
    assert not matches(read_filter(f"NOT ({text})", LOGS), RECORD)


@pytest.mark.parametrize("text", ["orde", "re", "id0", "결제오류", "level > WARN", "labels.host = A-1", "id=77"])
def test_a_record_does_not_match_what_is_false_of_it(text: str) -> None:
    schema = LOGS if "id=" not in text else SERIES
    assert not matches(read_filter(text, schema), RECORD)


def test_the_filter_that_says_nothing_matches_all() -> None:
    assert matches(read_filter(" ", LOGS), {})


def test_an_unknown_bare_name_is_a_label_where_the_schema_says_so() -> None:
    record = {"kind": "GAUGE", "labels": {"host": "a", "k8s.pod": "b"}}
    assert matches(read_filter('host = "a" AND k8s.pod = b AND kind = GAUGE AND zone != "x"', SERIES), record)
    assert not matches(read_filter('host = "b"', SERIES), record)


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("nope = 3", 1, 'no field "nope"; expected one of: message, service, level'),
        ("a b nope.x = 3", 5, "labels.<key>"),
        ("service.x = 3", 1, "has no keys"),
        ("level >= LOUD", 10, "one of DEBUG, INFO, WARN, ERROR, FATAL"),
        ("level = W*", 9, "expected one of DEBUG"),
        ("status_code > high", 15, "such as 500"),
        ('status_code > "500"', 15, "without quotes"),
        ("status_code = 1.5", 15, "a whole number"),
        ("status_code = 9223372036854775808", 15, "64 bits"),
        ("duration_ms = 1" + "0" * 400, 15, "beyond"),
        ("duration > 5", 12, "unit"),
        ("timestamp > yesterday", 13, "RFC 3339"),
        ("timestamp > 2026-13-01T00:00:00Z", 13, "RFC 3339"),
        ("enabled = maybe", 11, "true or false"),
        ("enabled > false", 1, "= and !="),
        ("trace_id = xyz", 12, "hexadecimal"),
        ("trace_id < ab", 1, "cannot be used with <"),
        ("service < a*", 11, "wildcard only for"),
        ("service > *", 11, "* cannot be used with >"),
        ('service : ""', 11, 'expected a text after ":"'),
        ("labels.port > 80", 1, "labels holds strings"),
        ("labels = x", 1, "expected a key, as in labels.<key>"),
        ("labels:ho*", 8, "keys have no wildcards"),
        ("metadata.x > 5s", 14, "a number, or a text in quotes"),
        ("metadata.x < true", 1, "= and !="),
        ("x *", 3, "lone *"),
    ],
)
def test_a_refusal_names_the_character_and_what_would_do(text: str, position: int, says: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_filter(text, LOGS)
    assert caught.value.reason == "INVALID_FILTER"
    assert caught.value.message.startswith(f"filter, character {position}: ")
    assert says in caught.value.message


def test_full_text_is_refused_where_there_is_none() -> None:
    with pytest.raises(InvalidArgumentError, match="character 10: words and phrases cannot be looked for"):
        read_filter("host = a timeout", SERIES)
