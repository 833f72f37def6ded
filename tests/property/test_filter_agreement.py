"""The stores, the matcher and the highlights agree on what a filter means; full text uses its index."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow
import pytest
from elasticsearch import Elasticsearch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.servers import Server
from services.shared.filter import (
    Field,
    Kind,
    Schema,
    find_highlights,
    highlight_terms,
    matches,
    parse,
    read_filter,
)
from services.shared.filter.clickhouse import PAIR_INDEX, TEXT_INDEX, compile_clickhouse
from services.shared.filter.elasticsearch import (
    ANALYSIS,
    LONGEST_KEYWORD,
    compile_elasticsearch,
    field_key,
    moment_text,
)

LEVELS = (("DEBUG", 1), ("INFO", 2), ("WARN", 3), ("ERROR", 4), ("FATAL", 5))
SCHEMA = Schema.of(
    [
        Field("message", Kind.STRING, text_index=True),
        Field("service", Kind.STRING),
        Field("level", Kind.ENUM, enum=LEVELS),
        Field("severity", Kind.ENUM, enum=(("LOW", 1), ("HIGH", 2)), enum_by_name=True),
        Field("trace_id", Kind.ID),
        Field("status_code", Kind.INTEGER),
        Field("score", Kind.NUMBER, nullable=True),
        Field("duration", Kind.DURATION, column="duration_ms", unit_nanoseconds=1_000_000),
        Field("timestamp", Kind.TIMESTAMP),
        Field("enabled", Kind.BOOLEAN),
        Field("labels", Kind.LABEL_MAP),
        Field("tags", Kind.TYPED_MAP),
    ],
    full_text=["message"],
)
TABLE = f"""
CREATE TABLE logs.logs (
    id UInt32, message String, service LowCardinality(String), level UInt8, severity String, trace_id String,
    status_code Int32, score Nullable(Float64), duration_ms Float64, timestamp DateTime64(9, 'UTC'), enabled Bool,
    labels Map(LowCardinality(String), String), tags_string Map(String, String), tags_int64 Map(String, Int64),
    tags_double Map(String, Float64), tags_bool Map(String, Bool),
    {TEXT_INDEX.format(column="message")},
    {PAIR_INDEX.format(column="message")}
) ENGINE = MergeTree ORDER BY id SETTINGS index_granularity = 128
"""
WORDS = ["order", "Order", "reorder", "orders", "order_id=7", "a.b", "java.net.ConnectException", "it's", "10:20"]
WORDS += [
    "결제",
    "결제서비스오류",
    "서비",
    "오류",
    "İ",
    "i",
    "ΑΣ",
    "ΣΑΣΑ",
    "ß",
    "SS",
    "é",
    "e\u0301",
    "😀",
    "漢字",
    "テ",
]
WORDS += ["\\", "(x|y)*", "[a]", "$", "^", "{p0:String}", "'", '"', "%", "\t", "\n", "K", "k", "x\x00y", "", "Ab", "AB"]
SEPARATORS = ["", " ", " ", " ", "_", ".", ":", "-", "\n", "가", "1"]
INSTANT = datetime(2026, 1, 31, 9, tzinfo=UTC)
NUMBERS = [0, 1, -5, 500, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, -0.0, 0.1, 0.5, 1e-300, 9007199254740992.0, 1e308, 500.0]
ROWS = 1500


def message(source: random.Random) -> str:
    return "".join(source.choice(WORDS) + source.choice(SEPARATORS) for _ in range(source.randrange(7)))


def record(source: random.Random) -> dict[str, Any]:
    tags: dict[str, Any] = {}
    for key in source.sample(["a", "b.c", "결제", "'", "d"], source.randrange(5)):
        tags[key] = source.choice([*NUMBERS, True, False, "", "5", "true", "Text", "결제"])
    return {
        "message": message(source),
        "service": source.choice(["", "pay", "Pay", "payment", "*", "결제"]),
        "level": source.randrange(6),
        "severity": source.choice(["", "LOW", "HIGH"]),
        "trace_id": source.choice(["", "0af7", "0af765", "ff"]),
        "status_code": source.choice([0, 200, 500, -5, 2**31 - 1]),
        "score": source.choice([None, 0.0, 0.5, -1.0, 500.0]),
        "duration": source.choice([0.0, 0.1, 1500.0, 120.5]),
        "timestamp": INSTANT + timedelta(microseconds=source.choice([-1, 0, 1, 10**6])),
        "enabled": source.random() < 0.5,
        "labels": {
            key: source.choice(["", "a", "A", "b*", "결제"]) for key in source.sample("abc", source.randrange(4))
        },
        "tags": tags,
    }


def columns(row: dict[str, Any]) -> list[Any]:
    tags = row["tags"]
    typed = [{key: value for key, value in tags.items() if type(value) is kind} for kind in (str, int, float, bool)]
    names = ["message", "service", "level", "severity", "trace_id", "status_code", "score", "duration"]
    return [*(row[name] for name in names), row["timestamp"], row["enabled"], row["labels"], *typed]


class Store:
    """The rows, in ClickHouse and as records."""

    def __init__(self, client: Any, rows: list[dict[str, Any]]) -> None:
        self.client = client
        self.rows = rows
        client.command("CREATE DATABASE logs ENGINE = Atomic")
        client.command(TABLE)
        data = [[index, *columns(row)] for index, row in enumerate(rows)]
        # Two parts, so that the index is read and merged as it is in life.
        for part in (data[: ROWS // 2], data[ROWS // 2 :]):
            client.insert("logs.logs", part)

    def found(self, text: str) -> list[int]:
        compiled = compile_clickhouse(read_filter(text, SCHEMA))
        statement = f"SELECT id FROM logs.logs WHERE {compiled.sql} ORDER BY id"
        return [row[0] for row in self.client.query(statement, parameters=compiled.parameters).result_rows]

    def matched(self, text: str) -> list[int]:
        tree = read_filter(text, SCHEMA)
        return [index for index, row in enumerate(self.rows) if matches(tree, row)]

    def index_granules(self, text: str) -> str:
        """The granules that the text indexes leave, as "1/12"; empty: none is used."""
        compiled = compile_clickhouse(read_filter(text, SCHEMA))
        plan = self.client.query(
            f"EXPLAIN indexes = 1 SELECT id FROM logs.logs WHERE {compiled.sql}", parameters=compiled.parameters
        )
        lines = [row[0].strip() for row in plan.result_rows]
        used = [at for at, line in enumerate(lines) if line in ("Name: message_text", "Name: message_neighbours")]
        left = [next(line for line in lines[at:] if line.startswith("Granules: ")).split()[1] for at in used]
        return f"{left[-1].split('/')[0]}/{left[0].split('/')[1]}" if left else ""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("chdb")
    client = clickhouse_connect.get_client(dsn=f"chdb://{path}")
    try:
        source = random.Random(20260131)
        rows = [record(source) for _ in range(ROWS)]
        rows[700]["message"] = "Needle in java.net.SocketTimeout: 대한민국결제승인 broke the pipe_line"
        yield Store(client, rows)
    finally:
        client.close()


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def pattern(text: str, stars: tuple[bool, bool]) -> str:
    return '"' + "*" * stars[0] + quoted(text)[1:-1].replace("*", "\\*") + "*" * stars[1] + '"'


PATTERNS = st.builds(
    pattern, st.sampled_from(["pay", "", "Pa", "a", "A", "결", "5", "b*", "*"]), st.tuples(st.booleans(), st.booleans())
)
NUMBER_TEXTS = st.sampled_from([*map(repr, NUMBERS), "5", "2", "1e18", "9223372036854775808", "-9007199254740993"])
ORDER = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
EQUAL = st.sampled_from(["=", "!=", ":"])
KEYS = st.sampled_from(["a", '"b"."c"', "b.c", "결제", '"\'"', "d", "gone"])


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(" ".join)


@st.composite
def phrases(draw: st.DrawFn) -> str:
    """A piece of what a message may hold."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
    text = draw(st.sampled_from(SEPARATORS)).join(words)
    start, end = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    return text[start : len(text) - end] or "order"


BARE_TERMS = st.sampled_from(["order", "ord*", "*der", "*rde*", "ORDER_ID", "결제", "*비*", "k*", "connectexception"])
LEAVES = st.one_of(
    phrases().map(quoted),
    BARE_TERMS,
    joined(st.just("message :"), phrases().map(quoted)),
    joined(st.sampled_from(["service", "labels.a", "labels.b", "labels.gone"]), EQUAL, PATTERNS),
    joined(
        st.sampled_from(["service", "labels.a", "labels.c", "message"]), ORDER, st.sampled_from(['"a"', '""', '"결"'])
    ),
    joined(st.just("level"), ORDER, st.sampled_from([name for name, _ in LEVELS])),
    joined(st.just("severity"), ORDER, st.sampled_from(["low", '"HIGH"'])),
    joined(st.just("trace_id"), st.sampled_from(["=", "!="]), st.sampled_from(["0AF7", "0af7*", "ff"])),
    joined(st.just("status_code"), ORDER, st.sampled_from(["0", "200", "-5", "9223372036854775807"])),
    joined(st.just("score"), ORDER, NUMBER_TEXTS),
    joined(st.just("duration"), ORDER, st.sampled_from(["0s", "100us", "1.5s", "120.5ms", "1ns"])),
    joined(st.just("timestamp"), ORDER, st.sampled_from(["2026-01-31T09:00:00Z", '"2026-01-31T18:00:01+09:00"'])),
    joined(st.just("enabled"), EQUAL, st.sampled_from(["true", "false"])),
    joined(KEYS.map("tags.{}".format), ORDER, NUMBER_TEXTS),
    joined(KEYS.map("tags.{}".format), EQUAL, st.one_of(st.sampled_from(["true", "false"]), PATTERNS)),
    joined(KEYS.map("tags.{}".format), ORDER, st.sampled_from(['"5"', '""', "text"])),
    joined(st.sampled_from(["tags", "labels"]), st.just(":"), st.sampled_from(["a", "b.c", "gone", "*"])),
    st.sampled_from(["service", "level", "severity", "status_code", "score", "timestamp", "enabled", "tags.a"]).map(
        "{}:*".format
    ),
    # What a store may find to be true or false without a row.
    joined(st.just("(service ="), PATTERNS, st.just("AND service ="), PATTERNS, st.just(")")),
    joined(st.just("(status_code"), ORDER, st.just("200 OR status_code"), ORDER, st.sampled_from(["0)", "200)"])),
    st.sampled_from(["level > FATAL", "level >= DEBUG", "(status_code < 0 AND status_code > 200)"]),
).filter(lambda text: not text.endswith(': ""'))
FILTERS = st.recursive(
    LEAVES,
    lambda children: st.one_of(
        st.lists(children, min_size=2, max_size=3).map(lambda parts: "(" + " AND ".join(parts) + ")"),
        st.lists(children, min_size=2, max_size=3).map(lambda parts: "(" + " OR ".join(parts) + ")"),
        children.map("NOT ({})".format),
    ),
    max_leaves=5,
)


@given(text=FILTERS)
@settings(max_examples=200, deadline=None)
def test_the_matcher_finds_the_rows_that_clickhouse_finds(store: Store, text: str) -> None:
    assert store.found(text) == store.matched(text)


@pytest.mark.parametrize(
    "always",
    ["level > FATAL", '(service = "a" AND service = "b")', "(status_code < 0 AND status_code > 200)", "labels.a < a"],
)
@pytest.mark.parametrize(
    "form", ["NOT (order OR {})", "NOT (결제 NOT ({}))", "service:* NOT (NOT (order OR {}) OR {})"]
)
def test_words_are_found_beside_what_nothing_can_meet(store: Store, form: str, always: str) -> None:
    text = form.replace("{}", always)
    assert store.found(text) == store.matched(text)
    assert 0 < len(store.found(text)) < ROWS


@given(text=st.one_of(phrases().map(quoted), BARE_TERMS))
@settings(max_examples=150, deadline=None)
def test_what_is_found_by_full_text_and_only_that_has_highlights(store: Store, text: str) -> None:
    terms = highlight_terms(parse(text))
    highlighted = [index for index, row in enumerate(store.rows) if find_highlights(row["message"], terms)]
    assert store.found(text) == highlighted


@pytest.mark.parametrize(
    "text",
    [
        "needle",
        "NEEDLE",
        "sockettimeout",
        "한민",
        "결제승인",
        '"broke the pipe"',
        "pipe_line",
        "message:대한",
        "needle 대한",
    ],
)
def test_full_text_finds_its_row_by_the_index(store: Store, text: str) -> None:
    assert store.found(text) == [700]
    granules = store.index_granules(text)
    assert granules
    read, of = map(int, granules.split("/"))
    assert read < of


def test_a_term_as_long_as_a_filter_may_be_is_searched_for(store: Store) -> None:
    for text in ("가나다라" * 1000, "ab " * 1300, "(" * 4000, "a1_" * 1300):
        assert store.found(quoted(text)) == []
    assert store.found(" ".join(["order"] * 200)) == store.matched("order")


def test_every_character_is_lowered_and_cut_into_tokens_as_terms_assume(store: Store) -> None:
    """What `TEXT_INDEX` says of ClickHouse, for each code point: an upgrade that changes it shows here."""
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code <= 0xDFFF]
    store.client.command("CREATE TABLE logs.characters (c String) ENGINE = Memory")
    store.client.insert_arrow("logs.characters", pyarrow.table({"c": characters}))
    lowered = store.client.query_arrow("SELECT c, lowerUTF8(c) FROM logs.characters", use_strings=True)
    unlike = [
        c for c, lower in zip(*(column.to_pylist() for column in lowered.columns), strict=True) if c.lower() != lower
    ]
    assert {unicodedata.category(character) for character in unlike} <= {"Cn"}

    # The joiners that the preprocessor leaves are letters and digits; İ becomes i and a dot, the Kelvin sign k.
    spaced = "translate(lowerUTF8(concat('a', c, 'b')), '_.:;,\\'', '      ')"
    joining = f"SELECT c FROM logs.characters WHERE NOT hasAll(tokens({spaced}, 'asciiCJK'), ['a', 'b'])"
    joined = [row[0] for row in store.client.query(joining).result_rows]
    assert all(any(each.isascii() and each.isalnum() for each in character.lower()) for character in joined)
    whole = (
        f"SELECT count() FROM logs.characters WHERE c > '\\x7f' AND NOT has(tokens({spaced}, 'asciiCJK'), lowerUTF8(c))"
    )
    # İ becomes i and a dot, the Kelvin sign becomes k.
    assert store.client.query(whole).result_rows == [(2,)]


class Index:
    """The same rows in Elasticsearch, mapped as its compiler says."""

    def __init__(self, client: Elasticsearch, rows: list[dict[str, Any]]) -> None:
        self.client = client
        self.rows = rows
        self.name = f"filter-agreement-{os.getpid()}"
        keyword = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
        keyed = {"type": "object", "subobjects": False, "dynamic": True}
        kinds = {"labels": keyword, "tags_string": keyword, "tags_int64": {"type": "long"}}
        kinds |= {"tags_double": {"type": "double"}, "tags_bool": {"type": "boolean"}}
        plain = dict.fromkeys(("service", "severity", "trace_id", "labels_keys", "tags_keys"), keyword)
        numbers = {"level": "byte", "status_code": "long", "score": "double", "duration_ms": "double", "id": "long"}
        exact = {"type": "text", "analyzer": "airis_exact", "fields": {"keyword": keyword}}
        client.indices.create(
            index=self.name,
            settings={"number_of_shards": 1, "number_of_replicas": 0, "analysis": ANALYSIS, "max_regex_length": 65536},
            mappings={
                "dynamic": False,
                "dynamic_templates": [
                    {name: {"path_match": f"{name}.*", "mapping": kind}} for name, kind in kinds.items()
                ],
                "properties": {
                    "message": exact,
                    "timestamp": {"type": "date_nanos", "format": "strict_date_optional_time_nanos"},
                    "enabled": {"type": "boolean"},
                    **plain,
                    **{name: {"type": kind} for name, kind in numbers.items()},
                    **dict.fromkeys(kinds, keyed),
                },
            },
        )
        lines: list[Any] = []
        for index, row in enumerate(rows):
            lines += ['{"create":{}}', json.dumps(document(index, row))]
        answer = client.bulk(index=self.name, operations=lines, refresh=True)
        assert not answer["errors"], [item for item in answer["items"] if "error" in item["create"]][:3]

    def found(self, text: str) -> list[int]:
        query = compile_elasticsearch(read_filter(text, SCHEMA), texts={"message": "message"})
        answer = self.client.search(
            index=self.name, query={"bool": {"filter": [query]}}, size=ROWS, sort=["id"], source=False
        )
        return [hit["sort"][0] for hit in answer["hits"]["hits"]]

    def matched(self, text: str) -> list[int]:
        tree = read_filter(text, SCHEMA)
        return [index for index, row in enumerate(self.rows) if matches(tree, row)]


def document(index: int, row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is zero or absent."""
    moment = (row["timestamp"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    made = {name: value for name, value in row.items() if value and name not in ("tags", "labels", "duration")}
    if row["score"] is not None:
        made["score"] = row["score"]
    made |= {"id": index, "duration_ms": row["duration"], "timestamp": moment_text(moment)}
    made |= {"labels_keys": list(row["labels"]), "tags_keys": list(row["tags"])}
    made["labels"] = {field_key(key): value for key, value in row["labels"].items()}
    for name, kind in (("string", str), ("int64", int), ("double", float), ("bool", bool)):
        made[f"tags_{name}"] = {field_key(key): value for key, value in row["tags"].items() if type(value) is kind}
    return made


@pytest.fixture(scope="module")
def index(elasticsearch: Server) -> Iterator[Index]:
    source = random.Random(20260131)
    rows = [record(source) for _ in range(ROWS)]
    for row in rows:
        # The one difference: Elasticsearch knows one small sigma, Python's lower case two.
        row["message"] = row["message"].replace("\u03a3", "")
    with Elasticsearch(f"http://{elasticsearch.address}", request_timeout=60, max_retries=0) as client:
        made = Index(client, rows)
        yield made
        client.indices.delete(index=made.name)


@pytest.mark.servers
@given(text=FILTERS)
@settings(max_examples=200, deadline=None)
def test_the_matcher_finds_the_rows_that_elasticsearch_finds(index: Index, text: str) -> None:
    assert index.found(text) == index.matched(text)


@pytest.mark.servers
@given(text=st.one_of(phrases().map(quoted), BARE_TERMS))
@settings(max_examples=200, deadline=None)
def test_full_text_of_elasticsearch_is_that_of_the_matcher(index: Index, text: str) -> None:
    assert index.found(text) == index.matched(text)


@pytest.mark.servers
def test_elasticsearch_takes_the_longest_filters(index: Index) -> None:
    for text in ("가나다라" * 1000, "ab " * 1300, "(" * 4000, "a1_" * 1300):
        assert index.found(quoted(text)) == []
    assert index.found(" ".join(["order"] * 200)) == index.matched("order")
    for text in ('service : "{}"', 'service = "*{}*"', 'labels.a = "{}*"', 'message = "{}"'):
        assert index.found(text.format("aB.é-" * 800)) == []
    deep = "(NOT " * 31 + "order" + ")" * 31
    assert index.found(deep) == index.matched(deep)
    wide = "(a OR (" * 15 + "order" + "))" * 15
    assert index.found(wide) == index.matched(wide)
