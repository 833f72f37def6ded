"""What handlers call before they ask a store, in this process: some thousand inputs a second.

An input is answered or refused with an error that names the caller's mistake. Anything else is a finding.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from services.alerts import checks, matching
from services.alerts import convert as alerts
from services.alerts.config import AlertsConfig
from services.logs import convert as logs
from services.logs import ingest as logs_ingest
from services.logs import query as logs_query
from services.logs.config import LogsConfig
from services.metrics import convert as metrics
from services.metrics import ingest as metrics_ingest
from services.metrics import query as metrics_query
from services.metrics.config import MetricsConfig
from services.metrics.series import SeriesIndex
from services.shared.auth.bearer import bearer_token
from services.shared.auth.tokens import TokenVerifier
from services.shared.bus.port import Header
from services.shared.errors import AirisError
from services.shared.filter import find_highlights, highlight_terms, parse, read_filter, to_text
from services.shared.filter.clickhouse import compile_clickhouse
from services.shared.filter.elasticsearch import compile_elasticsearch
from services.shared.rpc.decoding import deserializer
from services.shared.rpc.errors import item_status, to_status
from services.shared.rpc.ingest_stream import batch_sequence
from services.shared.rpc.interceptor import validate
from services.shared.rpc.otlp_http import OtlpHttp
from services.shared.rpc.pages import decode_page_token, encode_page_token
from services.shared.rpc.times import duration_ns, time_range
from services.shared.rpc.update_mask import merge, without_servers_own
from services.traces import convert as traces
from services.traces import ingest as traces_ingest
from services.traces import jaeger_query
from services.traces import query as traces_query
from services.traces.config import TracesConfig
from tests.fuzz import messages, mutations, texts
from tests.fuzz.contract import SIGNALS, Rpc, rpcs, signal_rpcs

OURS = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE"})
"""Codes that no caller's mistake is answered with."""

SCHEMAS = {
    "metrics": metrics_query.SCHEMA,
    "logs": logs_query.SCHEMA,
    "traces": traces_query.SCHEMA,
    "alerts": matching.ALERT_SCHEMA,
}
MOST_STATUS_BYTES = 4500
"""It travels in trailers, in base64 and its text again; a client takes 8 KiB of those unless it is told otherwise."""
VARIATIONS = 16
"""Inputs of one message: as it is, and mutations of it. To make one takes longer than to read it."""

Target = Callable[[Random, int, int], None]


class Decoders:
    """Gives inputs to decoders.

    Args:
        seed: With an index it gives the same input again.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._checkers: dict[str, Any] = {
            "metrics": metrics_ingest.Checker(MetricsConfig(), SeriesIndex(capacity=10_000)),
            "logs": logs_ingest.Checker(LogsConfig()),
            "traces": traces_ingest.Checker(TracesConfig()),
        }
        self._tokens = TokenVerifier(_NoKeys())
        self._codecs = {
            codec.field: codec for codec in (alerts.RULES, alerts.SILENCES, alerts.CHANNELS, alerts.POLICIES)
        }
        self._json = {rpc.path: self._otlp(rpc) for rpc in signal_rpcs() if rpc.is_otlp}
        self._targets = tuple(self._all_targets())
        self._base: tuple[int, Message] | None = None

    def run(self, index: int) -> tuple[str, str]:
        """Gives one input to its decoder.

        Returns:
            What it was given to, and the status: "OK" or the code of the refusal.

        Raises:
            AssertionError: It was refused as nothing should be.
            Exception: The decoder fails.
        """
        group, variation = divmod(index, VARIATIONS)
        name, target = self._targets[group % len(self._targets)]
        try:
            target(Random(f"{self._seed}/{index}"), group, variation)
        except AirisError as error:
            assert error.code not in OURS, f"{error.code}: {error.message}"  # noqa: PT017
            status = to_status(error, f"{name}.airis")
            size = len(status.SerializeToString())
            assert size < MOST_STATUS_BYTES, f"the status has {size} bytes"
            return name, error.code
        return name, "OK"

    def name(self, index: int) -> str:
        """What an input is given to."""
        return self._targets[index // VARIATIONS % len(self._targets)][0]

    def _all_targets(self) -> Iterator[tuple[str, Target]]:
        for rpc in rpcs():
            # The others are answered by gRPC's own code and by the mesh's server: over the wire.
            if rpc.signal in SIGNALS:
                yield rpc.path, partial(self._rpc, rpc)
        for rpc in signal_rpcs():
            if rpc.is_otlp:
                yield f"OTLP/JSON {rpc.signal}", partial(self._otlp_json, rpc)
            else:
                yield f"JSON {rpc.path}", partial(self._rest_json, rpc)
        for name in SCHEMAS:
            for _ in range(2):
                yield f"filter {name}", partial(_filter_of, name)
        yield "token", self._token

    def _message(self, rpc: Rpc, group: int) -> Message:
        """What the inputs of a group are variations of."""
        if self._base is None or self._base[0] != group:
            self._base = group, messages.request(Random(f"{self._seed}/base/{group}"), rpc.request, rpc.name)
        return self._base[1]

    def _rpc(self, rpc: Rpc, rng: Random, group: int, variation: int) -> None:
        payload = self._message(rpc, group).SerializeToString()
        if variation:
            payload = mutations.wire(rng, payload)
        if rpc.takes_items:
            self._items(rpc, payload)
        else:
            self._ask(rpc, payload)

    def _items(self, rpc: Rpc, payload: bytes) -> None:
        now = time.time_ns()
        if rpc.client_streams:
            batch_sequence(payload)
        read = {"metrics": metrics.read, "logs": logs.read, "traces": traces.read}[rpc.signal]
        kind = rpc.request.DESCRIPTOR.full_name
        items = read(kind, [payload]).items
        checker = self._checkers[rpc.signal]
        checked = checker.check(items, "default", now)
        for violation in checked.rejected.values():
            item_status(violation, "x.airis").SerializeToString()
        assert len(checked.rejected) <= items.count, "more refused items than there are"
        if len(payload) % 3:
            return
        # What a worker does with it after a restart, from the same bytes: what was acknowledged is never refused.
        again = read(kind, [payload]).items
        header = Header("default", kind, now, items.count, rejected=tuple(sorted(checked.rejected)))
        rows = _rows(checker.columns(again, header))
        assert rows == _rows(checked.columns), "a replay stores something else"

    def _ask(self, rpc: Rpc, payload: bytes) -> None:
        parsed = deserializer(rpc.request)(payload)
        validate(parsed)
        assert isinstance(parsed, Message)
        request: Any = parsed
        now = time.time_ns()
        names = request.DESCRIPTOR.fields_by_name
        if rpc.is_jaegers:
            _jaeger(rpc.name, request, now)
            return
        if "page_token" in names:
            decode_page_token(request, int, int, str)
            encode_page_token(request, [1])
        if "filter" in names:
            _filter(request.filter, rpc.signal)
        if "start_time" in names:
            time_range(
                request.start_time if request.HasField("start_time") else None,
                request.end_time if request.HasField("end_time") else None,
                now,
            )
        if "step" in names:
            duration_ns(request.step)
        if rpc.signal == "alerts":
            self._alerts(request)
        if rpc.name == "QueryMetrics":
            metrics_query.plan(metrics.range_query(request, "default", now))
        if rpc.name == "WatchMetrics":
            metrics.range_query(request.query, "default", now)
        if rpc.name in ("CountLogs", "SearchLogs"):
            logs.selection(request, "default", now)
        if rpc.name == "SearchTraces":
            traces_query.read_order(request.order_by)

    def _alerts(self, request: Any) -> None:
        now = datetime.now(UTC)
        for field, codec in self._codecs.items():
            if field not in request.DESCRIPTOR.fields_by_name:
                continue
            message = getattr(request, field)
            if "update_mask" in request.DESCRIPTOR.fields_by_name:
                alerts.resource_id(message.name, codec.collection)
                message = merge(_existing(field), message, request.update_mask)
                validate(message)
            resource: Any = codec.read(without_servers_own(message))
            _CHECKS[field](resource)
            written = codec.write(replace(resource, id="x", create_time=now, update_time=now), True)
            # Exact enough: what is kept reads as what was sent.
            codec.read(type(message).FromString(written.SerializeToString()))
        for field, collection in (("name", "alertRules"), ("parent", "alerts")):
            if field in request.DESCRIPTOR.fields_by_name:
                alerts.resource_id(getattr(request, field), collection, field)

    def _otlp(self, rpc: Rpc) -> OtlpHttp:
        async def export(payload: bytes, _: str) -> Message:
            self._items(rpc, payload)
            return rpc.response()

        return OtlpHttp(export, rpc.request, f"{rpc.signal}.airis")

    def _otlp_json(self, rpc: Rpc, rng: Random, group: int, variation: int) -> None:
        body = mutations.json_text(rng, otlp_tree(self._message(rpc, group)))
        handler = self._json[rpc.path]
        try:
            self._loop.run_until_complete(handler.answer(body, "application/json", "default"))
        except AirisError as error:
            status, answer = handler.refuse(error, "application/json")
            assert 400 <= status < 500, f"{status} {answer[:300]!r}"
            raise

    def _rest_json(self, rpc: Rpc, rng: Random, group: int, variation: int) -> None:
        """What Envoy's transcoder would hand on of a JSON body."""
        body = mutations.json_text(rng, tree(self._message(rpc, group)))
        request = rpc.request()
        try:
            json_format.Parse(body, request, ignore_unknown_fields=True)
        except (json_format.ParseError, ValueError, OverflowError, RecursionError):
            # Envoy refuses what does not parse; over the wire that is seen.
            return
        payload = request.SerializeToString()
        if rpc.takes_items:
            self._items(rpc, payload)
        else:
            self._ask(rpc, payload)

    def _token(self, rng: Random, group: int, variation: int) -> None:
        parts = [
            base64.urlsafe_b64encode(_claims(rng)).decode().rstrip("=") for _ in range(rng.choice((1, 2, 3, 3, 4)))
        ]
        made = "Bearer " + ".".join(parts)
        header: str | bytes = made
        if rng.random() < 0.3:
            header = mutations.wire(rng, made.encode())
        elif rng.random() < 0.2:
            header = texts.text(rng)
        tenant = texts.text(rng) if rng.random() < 0.5 else None
        self._tokens.authenticate(bearer_token(header), tenant)


def tree(message: Message) -> Any:
    """A message as its JSON, as far as it has one."""
    try:
        return json_format.MessageToDict(message)
    except (ValueError, OverflowError, json_format.Error):
        return {}


def otlp_tree(message: Message) -> Any:
    """As OTLP writes it: ids as hex."""
    return _hex_ids(tree(message))


def _hex_ids(node: Any) -> Any:
    if isinstance(node, list):
        return [_hex_ids(item) for item in node]
    if isinstance(node, dict):
        return {
            key: base64.b64decode(value).hex()
            if key in ("traceId", "spanId", "parentSpanId") and isinstance(value, str)
            else _hex_ids(value)
            for key, value in node.items()
        }
    return node


def _filter_of(signal: str, rng: Random, group: int, variation: int) -> None:
    _filter(texts.filter_text(rng), signal)


def _filter(text: str, signal: str) -> None:
    expression = parse(text)
    for schema in {signal: SCHEMAS[signal], "logs": SCHEMAS["logs"]}.values():
        checked = read_filter(text, schema)
        compile_clickhouse(checked)
    compile_elasticsearch(read_filter(text, SCHEMAS["logs"]), texts={"message": "message"})
    find_highlights("timeout 배송 Connection refused", highlight_terms(expression))
    if expression is not None:
        printed = to_text(expression)
        assert parse(printed) is not None or len(printed) > 4096, f"printed as {printed!r}"


def _jaeger(name: str, request: Any, now: int) -> None:
    days = TracesConfig().raw_retention_days
    if name == "GetTraces":
        for each in request.query:
            jaeger_query.trace_id(each.trace_id)
    elif name == "GetOperations":
        jaeger_query.span_kind(request.span_kind)
    elif name == "GetDependencies":
        jaeger_query.time_range(request.start_time, request.end_time, now, days)
    elif name.startswith("FindTrace"):
        _filter(jaeger_query.search("default", request.query, now, days).filter, "traces")


def _rows(columns: Any) -> list[int]:
    names = ("samples", "distributions", "entries", "spans", "table")
    return [getattr(columns, name).num_rows for name in names if hasattr(columns, name)]


def _existing(field: str) -> Any:
    return _EXISTING[field]


def _claims(rng: Random) -> bytes:
    now = time.time()
    claims: Any = {
        "iss": "airis-epm",
        "aud": rng.choice(("airis-services", ["airis-services"], 1, None, {})),
        "exp": rng.choice((now + 60, 1e400, "x", -1, None, 2**70, True)),
        "iat": now,
        "alg": rng.choice(("RS256", "none", "HS256", None, [], 5)),
        "typ": rng.choice(("JWT", "jwt", None, 3)),
        "kid": rng.choice(("a", "", None, {}, texts.text(rng))),
        "crit": rng.choice(([], ["x"], None)),
        "sub": texts.text(rng),
    }
    return mutations.json_text(rng, claims)


class _NoKeys:
    """A source of keys that has none but a wrong one for each id."""

    def generation(self) -> int:
        return 0

    def find(self, kid: str) -> Any:
        return None


_config = AlertsConfig()
_CHECKS: dict[str, Callable[[Any], None]] = {
    "alert_rule": checks.check_rule,
    "silence": checks.check_silence,
    "channel": lambda channel: checks.check_channel(channel, _config),
    "escalation_policy": checks.check_policy,
}


def _resources() -> dict[str, Any]:
    by_name = {rpc.name: rpc.request for rpc in signal_rpcs()}
    found = {}
    for create, field, values in (
        (
            "CreateAlertRule",
            "alert_rule",
            {"name": "alertRules/x", "displayName": "x", "severity": "HIGH",
             "conditions": [{"metric": "m", "operator": "GT", "threshold": 1}]},
        ),
        ("CreateSilence", "silence", {"name": "silences/x", "filter": "rule=a", "endTime": "2100-01-01T00:00:00Z"}),
        (
            "CreateChannel",
            "channel",
            {"name": "channels/x", "displayName": "x", "webhook": {"url": "http://127.0.0.1:9", "secret": "s"}},
        ),
        ("CreateEscalationPolicy", "escalation_policy", {"name": "escalationPolicies/x", "displayName": "x"}),
    ):  # fmt: skip
        message = by_name[create]().DESCRIPTOR.fields_by_name[field].message_type
        found[field] = json_format.ParseDict(json.loads(json.dumps(values)), message._concrete_class())
    return found


_EXISTING = _resources()
