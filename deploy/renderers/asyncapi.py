"""`docs/asyncapi.yaml`: what stands in Kafka, as AsyncAPI 3.0, from the messages and their comments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor import Descriptor

from deploy.renderers.comments import paragraph, read_comments
from deploy.renderers.openapi_schemas import Schemas
from deploy.renderers.signals import Signal, method_name
from deploy.renderers.wording import Node, as_yaml
from services.shared.bus.config import KafkaConfig

HEADER = "Generated from the protos by `make generate`. Do not edit."

CONTENT_TYPE = "application/protobuf"
_PROTOBUF = "application/vnd.google.protobuf;version=3"
_HOUR_MS = 3_600_000

_DESCRIPTION = paragraph("""\
What the services that take data publish, and the workers that store it read. Each record is one accepted request as its
sender has written it, in protobuf; what is known of it beside stands in its headers, as a CloudEvent in binary mode.

A topic is named by the setting `bus.kafka.topic_prefix` and the signal. The type of an event is the full name of its
message, whose package has the version: a change that old readers could not read is a new type, beside the old one.

Records of one sender (`request-id` or `producer-id`) have the same key, and so their order within a partition. A record
may be there twice; its ids tell. What cannot be read goes to `<topic>.dlq`: `airis bus dlq` lists, shows and replays
it.""")

_TEXT: Node = {"type": "string"}
_NUMBER: Node = {"type": "string", "pattern": "^[0-9]+$"}


def _text(description: str, **more: object) -> Node:
    return {**_TEXT, "description": description, **more}


def _number(description: str) -> Node:
    return {**_NUMBER, "description": description}


def _bytes(description: str) -> Node:
    return {"type": "string", "format": "binary", "description": description}


# Header values are bytes in Kafka: texts in UTF-8 unless something else is said.
REQUIRED_HEADERS: dict[str, Node] = {
    "ce_specversion": _text("The version of CloudEvents.", const="1.0"),
    "ce_id": _text("Tells the event from all others of its source."),
    "ce_type": _text("The full name of the payload's message, such as `airis.metrics.v1.IngestMetricsRequest`."),
    "ce_source": _text("The service that published it, such as `/airis-metrics`."),
    "ce_time": _text("When the service took it.", format="date-time"),
    "content-type": _text("Of the payload.", const=CONTENT_TYPE),
    "correlation-id": _text("The sender's id, `<producer>/<sequence>` of a stream, or `ce_id` if it gave none."),
    "service-name": _text("The service that published it, such as `airis-metrics`."),
    "message-type": _text("As `ce_type`."),
    "tenant": _text("Whose data it is."),
    "airis-version": _text("The version of these headers.", const="1"),
    "received-at": _number(
        "Nanoseconds since 1970 at which the service took it: what counts as now when it is stored."
    ),
    "item-count": _number("Accepted items in the payload."),
}
OPTIONAL_HEADERS: dict[str, Node] = {
    "traceparent": _text("The W3C trace context in which it was published."),
    "request-id": _text("The sender's id of a unary request, stored once."),
    "producer-id": _text("The sender's name over its streams."),
    "sequence": _number("The number of a stream's batch within its producer."),
    "rejected": _bytes("Ascending indices of items that were refused: little-endian integers of 32 bits."),
}
REQUIRED_LETTER_HEADERS: dict[str, Node] = {
    "dlq-topic": _text("The topic that the record was in."),
    "dlq-partition": _number("Its partition."),
    "dlq-offset": _number("Its offset."),
    "dlq-reason": _text("Why it could not be read."),
}
OPTIONAL_LETTER_HEADERS: dict[str, Node] = {
    "dlq-key": _bytes("The record's key, if it had one."),
    "dlq-without-payload": _text("There if the payload was too large to be kept.", const="1"),
}


def render_asyncapi(signals: Sequence[Signal], descriptors: Path) -> str:
    """The document.

    Args:
        signals: The services; those without OTLP take no data.
        descriptors: A descriptor set with source information, for the comments.
    """
    config, schemas = KafkaConfig(), Schemas(read_comments(descriptors))
    taking = [signal for signal in signals if signal.otlp is not None]
    channels: dict[str, Node] = {}
    operations: dict[str, Node] = {}
    messages: dict[str, Node] = {}
    for signal in taking:
        events = list(_events(signal))
        for event in events:
            messages[event.full_name] = _message(event, schemas)
        channels[signal.name] = _channel(config, signal, [event.full_name for event in events])
        channels[f"{signal.name}-dlq"] = _dead_letters(config, signal)
        operations.update(_operations(signal, [event.full_name for event in events]))
    messages["DeadLetter"] = _letter()
    document = {
        "asyncapi": "3.0.0",
        "info": {"title": "AIRIS EPM: the bus", "version": "v1", "description": _DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "kafka": {
                "host": config.bootstrap_servers,
                "protocol": "kafka",
                "description": "The setting `bus.kafka.bootstrap_servers`.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "messageTraits": {
                "batch": {"headers": _headers(REQUIRED_HEADERS, OPTIONAL_HEADERS), "contentType": CONTENT_TYPE}
            },
            "correlationIds": {"correlation-id": {"location": "$message.header#/correlation-id"}},
            "schemas": dict(sorted(schemas.found.items())),
        },
    }
    return as_yaml(document, header=HEADER)


def _events(signal: Signal) -> Iterator[Descriptor]:
    """The messages in a signal's topic: its unary request, its stream's, OTLP's."""
    for policy in signal.policies:
        if method_name(policy).startswith(("Ingest", "Stream")):
            yield signal.service.methods_by_name[method_name(policy)].input_type
    if signal.otlp is not None:
        service, _, method = signal.otlp.method.strip("/").partition("/")
        yield signal.service.file.pool.FindServiceByName(service).methods_by_name[method].input_type


def _message(event: Descriptor, schemas: Schemas) -> Node:
    comment = schemas.comments.get(event.full_name, "")
    made: Node = {"name": event.full_name, "title": event.name}
    if comment:
        made["description"] = comment
    made["traits"] = [{"$ref": "#/components/messageTraits/batch"}]
    made["correlationId"] = {"$ref": "#/components/correlationIds/correlation-id"}
    made["payload"] = {"schemaFormat": _PROTOBUF, "schema": {"$ref": f"../proto/{event.file.name}"}}
    if event.full_name.startswith("airis."):
        # OTLP has a JSON form of its own.
        made["x-airis-json-schema"] = schemas.of_message(event)
    made["bindings"] = {"kafka": {"key": {"type": "string", "description": "Tenant, a zero byte and the sender's id."}}}
    return made


def _letter() -> Node:
    optional = {**REQUIRED_HEADERS, **OPTIONAL_HEADERS, **OPTIONAL_LETTER_HEADERS}
    return {
        "name": "DeadLetter",
        "title": "A record that could not be read",
        "description": "The record as it was, with its own headers, whatever they are, and these. A record of the same "
        "key without a value says that it was replayed.",
        "headers": _headers(REQUIRED_LETTER_HEADERS, optional),
        "payload": {"type": "string", "format": "binary", "description": "The record's value as it was."},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": "Where the record was: topic:partition:offset."}}
        },
    }


def _headers(required: dict[str, Node], optional: dict[str, Node]) -> Node:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _channel(config: KafkaConfig, signal: Signal, events: Sequence[str]) -> Node:
    return _topic(
        config.topic(signal.name),
        f"Accepted {signal.name} that wait for the store.",
        {event: {"$ref": f"#/components/messages/{event}"} for event in events},
        config.partitions,
        config.replication_factor,
        config.retention_hours,
    )


def _dead_letters(config: KafkaConfig, signal: Signal) -> Node:
    return _topic(
        config.dead_letter_topic(signal.name),
        f"What a worker of {signal.name} could not read.",
        {"DeadLetter": {"$ref": "#/components/messages/DeadLetter"}},
        1,
        config.replication_factor,
        config.dead_letter_retention_hours,
    )


def _topic(
    address: str, description: str, messages: dict[str, Node], partitions: int, replicas: int, hours: int
) -> Node:
    configuration = {"cleanup.policy": ["delete"], "retention.ms": hours * _HOUR_MS}
    return {
        "address": address,
        "description": description,
        "messages": messages,
        "bindings": {"kafka": {"partitions": partitions, "replicas": replicas, "topicConfiguration": configuration}},
    }


def _operations(signal: Signal, events: Sequence[str]) -> dict[str, Node]:
    title = signal.name.capitalize()
    channel, letters = f"#/channels/{signal.name}", f"#/channels/{signal.name}-dlq"
    every = [{"$ref": f"{channel}/messages/{event}"} for event in events]
    letter = [{"$ref": f"{letters}/messages/DeadLetter"}]
    return {
        f"publish{title}": {
            "action": "send",
            "channel": {"$ref": channel},
            "summary": f"The {signal.name} service acknowledges a request when this is durable.",
            "messages": every,
        },
        f"store{title}": {
            "action": "receive",
            "channel": {"$ref": channel},
            "summary": "Workers store batches, then commit their offsets.",
            "messages": every,
            "bindings": {"kafka": {"groupId": {"type": "string", "const": KafkaConfig().group(signal.name)}}},
        },
        f"refuse{title}": {
            "action": "send",
            "channel": {"$ref": letters},
            "summary": "A worker puts aside what it cannot read, and goes on.",
            "messages": letter,
        },
        f"replay{title}": {
            "action": "receive",
            "channel": {"$ref": letters},
            "summary": "`airis bus dlq replay` publishes it again.",
            "messages": letter,
        },
    }
