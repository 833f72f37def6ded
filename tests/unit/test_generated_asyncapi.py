"""The AsyncAPI document: whole, and what the bus really writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.renderers import asyncapi
from services.logs import convert as logs
from services.metrics import convert as metrics
from services.shared.bus.adapters.kafka_dead_letters import DeadLetter
from services.shared.bus.adapters.kafka_headers import encode
from services.shared.bus.config import KafkaConfig
from services.shared.bus.port import Header
from services.traces import convert as traces

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {
    "metrics": (metrics.UNARY, metrics.STREAM, metrics.OTLP),
    "logs": (logs.UNARY, logs.STREAM, logs.OTLP),
    "traces": (traces.UNARY, traces.STREAM, traces.OTLP),
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    text = (ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for item in node.values():
            yield from references(item)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    for reference in set(references(document)):
        if not reference.startswith("#/"):
            assert (ROOT / "docs" / reference).is_file(), reference
            continue
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


def test_each_signal_has_its_topics_with_what_the_services_publish(document: dict[str, Any]) -> None:
    config = KafkaConfig()
    assert document["channels"].keys() == {*EVENTS, *(f"{signal}-dlq" for signal in EVENTS)}
    for signal, events in EVENTS.items():
        channel, letters = document["channels"][signal], document["channels"][f"{signal}-dlq"]
        assert (channel["address"], letters["address"]) == (config.topic(signal), config.dead_letter_topic(signal))
        assert set(channel["messages"]) == set(events)
        assert channel["bindings"]["kafka"]["partitions"] == config.partitions
        group = document["operations"][f"store{signal.capitalize()}"]["bindings"]["kafka"]["groupId"]["const"]
        assert group == config.group(signal)


def test_each_operation_is_of_messages_of_its_channel(document: dict[str, Any]) -> None:
    for operation in document["operations"].values():
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    assert {each["action"] for each in document["operations"].values()} == {"send", "receive"}


def test_the_types_are_versioned_and_the_payload_is_the_contracts_message(document: dict[str, Any]) -> None:
    for name in {event for events in EVENTS.values() for event in events}:
        message = document["components"]["messages"][name]
        assert message["name"] == name
        assert ".v1." in name
        assert message["payload"]["schemaFormat"] == "application/vnd.google.protobuf;version=3"
        proto = (ROOT / "docs" / message["payload"]["schema"]["$ref"]).read_text()
        assert f"message {name.rpartition('.')[2]} " in proto
        assert f"package {name.rpartition('.')[0]};" in proto
        if name.startswith("airis."):
            reference = message["x-airis-json-schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][reference]["type"] == "object"


def test_the_headers_are_those_that_are_written(document: dict[str, Any]) -> None:
    described = document["components"]["messageTraits"]["batch"]["headers"]
    bare = Header("acme", metrics.UNARY, 1, 1)
    full = Header("acme", metrics.UNARY, 1, 1, request_id="r", producer_id="p", sequence=1, rejected=(1,))
    assert [name for name, _ in encode(bare, "airis-metrics", "1", "")] == described["required"]
    written = dict(encode(full, "airis-metrics", "1", "00-1-1-01"))
    assert written.keys() == described["properties"].keys()
    for name, schema in described["properties"].items():
        if "const" in schema:
            assert written[name].decode() == schema["const"], name


def test_the_headers_of_a_dead_letter_are_those_that_are_written(document: dict[str, Any]) -> None:
    described = document["components"]["messages"]["DeadLetter"]["headers"]
    least = DeadLetter("airis.metrics", 0, 1, None, (), b"?", "it is not a batch")
    assert [name for name, _ in least.encode()] == described["required"]
    most = {name for name, _ in DeadLetter("airis.metrics", 0, 1, b"key", (), None, "…").encode()}
    assert most == set(asyncapi.REQUIRED_LETTER_HEADERS) | set(asyncapi.OPTIONAL_LETTER_HEADERS)
    assert most <= described["properties"].keys()
