"""The `airis` command as users run it, against the real logs, metrics and traces services."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from airis.alerts.v1 import alerts_pb2, alerts_pb2_grpc
from airis.client import AirisClient
from airis.client.cli import app
from airis.client.signals.ingest import QUERYABLE
from airis.traces.v1 import traces_pb2
from client_server import ServiceChild
from google.protobuf.empty_pb2 import Empty
from typer.testing import CliRunner

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def targets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    children = [ServiceChild(name, Path(tmp_path_factory.mktemp(name))) for name in ("metrics", "logs", "traces")]
    try:
        await asyncio.gather(*(child.start() for child in children))
        yield {child.name: child.target for child in children}
    finally:
        await asyncio.gather(*(child.stop() for child in children))


async def airis(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a thread."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env={"AIRIS_TARGET": target})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


async def airis_process(target: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, with pipes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from airis.client.cli import main; main()",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "AIRIS_TARGET": target},
    )
    out, error = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), error.decode())


async def eventually(check: Callable[[], Any]) -> None:
    """Asks again until a command shows what was stored a moment ago."""
    deadline = time.monotonic() + 10
    while not await check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_metrics_are_sent_listed_and_queried(targets: dict[str, str], tmp_path: Path) -> None:
    target = targets["metrics"]
    sent = await airis(target, "metrics", "send", "load", "1.5", "--label", "host=a")
    assert (sent.returncode, sent.stdout) == (0, "Stored 1 point.\n")
    path = tmp_path / "points.jsonl"
    lines = [json.dumps({"name": "load", "value": number, "labels": {"host": "b"}}) for number in range(2500)]
    path.write_text("\n".join([*lines, '{"name": "not a name"}']))
    bulk = await airis_process(target, "metrics", "send", "--file", str(path))
    assert (bulk.returncode, bulk.stdout) == (1, "Stored 2,500 points.\n")
    assert bulk.stderr.startswith("airis: 1 point refused. Point 2501: metrics[500].name")

    arguments = ("metrics", "query", "load", "--aggregation", "count", "--group-by", "host", "--since", "1h")

    async def are_counted() -> bool:
        answer = json.loads((await airis(target, *arguments, "--output", "json")).stdout)
        counts = {s["labels"]["host"]: sum(point["value"] for point in s["points"]) for s in answer.get("series", [])}
        return counts == {"a": 1, "b": 2500}

    await eventually(are_counted)
    listed = json.loads((await airis(target, "metrics", "list", "--output", "json")).stdout)
    assert [metric["seriesCount"] for metric in listed["metrics"] if metric["metric"] == "load"] == ["2"]
    table = await airis(target, *arguments)
    assert "host=a" in table.stdout
    assert any(spark in table.stdout for spark in "▁▂▃▄▅▆▇█")


async def test_logs_are_sent_searched_and_followed(targets: dict[str, str]) -> None:
    target = targets["logs"]
    assert (
        await airis(target, "logs", "send", "결제 timed out", "--level", "error", "--service", "pay")
    ).returncode == 0
    piped = await airis_process(target, "logs", "send", "--service", "shop", stdin="one\n\ntwo\nthree\n")
    assert (piped.returncode, piped.stdout) == (0, "Stored 3 entries.\n")

    empty = await airis(target, "logs", "send", "--file", os.devnull)
    assert (empty.returncode, empty.stdout) == (0, "Stored 0 entries.\n")

    async def are_found() -> bool:
        found = json.loads((await airis(target, "logs", "search", "--since", "1h", "-o", "json")).stdout)
        return len(found.get("entries", [])) == 4

    await eventually(are_found)
    assert (await airis(target, "logs", "search", 'level = ERROR "timed"')).stdout.endswith(
        "ERROR pay: 결제 timed out\n"
    )
    tail = await airis(target, "logs", "tail", "service = shop", "--max-count", "3", "--output", "json")
    assert [json.loads(line)["message"] for line in tail.stdout.splitlines()] == ["one", "two", "three"]
    nothing = await airis(target, "logs", "search", "nowhere")
    assert (nothing.returncode, nothing.stdout) == (0, "No entry matches in this range.\n")


async def test_traces_are_listed_and_shown(targets: dict[str, str]) -> None:
    target = targets["traces"]
    now = time.time_ns() - 60 * 10**9
    spans = []
    for number, parent, service, kind, begin, end in (
        (1, 0, "web", traces_pb2.Span.CLIENT, 0, 100),
        (2, 1, "pay", traces_pb2.Span.SERVER, 10, 90),
    ):
        span = traces_pb2.Span(trace_id=TRACE, span_id=f"{number:016x}", service_name=service, kind=kind)
        span.operation_name, span.parent_span_id = f"work of {service}", f"{parent:016x}" if parent else ""
        span.start_time.FromNanoseconds(now + begin * 10**6)
        span.end_time.FromNanoseconds(now + end * 10**6)
        spans.append(span)
    async with AirisClient(target) as client, client.traces.session() as session:
        await session.send(spans)
        await session.flush()
        assert session.stored_items == 2
        await client.traces.ingest(spans[:1], request_id="again", wait_for=QUERYABLE)
    listed = await airis(target, "traces", "list", "service = pay")
    assert TRACE in listed.stdout
    assert "100 ms" in listed.stdout
    shown = await airis(target, "traces", "show", TRACE)
    assert "  pay: work of pay" in shown.stdout
    assert "█" * 40 in shown.stdout
    path = json.loads((await airis(target, "traces", "critical-path", TRACE, "-o", "json")).stdout)
    assert [segment["serviceName"] for segment in path["segments"]] == ["web", "pay", "web"]
    assert (await airis(target, "traces", "critical-path", TRACE)).stdout.count("█") > 40

    async def is_mapped() -> bool:
        answer = json.loads((await airis(target, "traces", "map", "--output", "json")).stdout)
        return [(edge["caller"], edge["callee"]) for edge in answer.get("edges", [])] == [("web", "pay")]

    await eventually(is_mapped)


async def test_failures_are_one_sentence_and_an_exit_code(targets: dict[str, str]) -> None:
    cases = [
        (targets["metrics"], ("metrics", "query", "load", "--filter", "host ="), 1, "filter, character"),
        (targets["traces"], ("traces", "show", "12"), 1, "trace_id"),
        (targets["traces"], ("traces", "show", "f" * 32), 1, "There is no trace"),
        ("127.0.0.1:1", ("metrics", "list"), 1, "127.0.0.1:1 cannot be reached"),
        ("127.0.0.1:1", ("metrics", "send", "--file", "/dev/null"), 1, "cannot be reached"),
        ("127.0.0.1:1", ("metrics", "query", "load", "--since", "1x"), 2, "1x"),
        ("127.0.0.1:1", ("metrics", "query", "load", "--aggregation", "sun"), 2, "sun"),
        ("127.0.0.1:1", ("metrics", "send", "load"), 2, "NAME and VALUE"),
        ("nowhere", ("metrics", "list"), 2, "nowhere"),
        ("127.0.0.1:1", ("no-such-command",), 2, "no-such-command"),
    ]
    for target, arguments, code, text in cases:
        result = await airis(target, *arguments)
        assert (result.returncode, text in result.stderr) == (code, True), (arguments, result.stderr)
        assert result.stdout == ""
        if code == 1:
            assert result.stderr.count("\n") == 1


class Alerts(alerts_pb2_grpc.AlertServiceServicer):
    """Keeps rules and channels in memory, fills in a default, and keeps secrets to itself."""

    def __init__(self) -> None:
        self.rules: dict[str, Any] = {}
        self.channels: dict[str, Any] = {}
        self.calls: list[str] = []

    async def get(self, kept: dict[str, Any], name: str, context: Any) -> Any:
        if name not in kept:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no {name}.")
        return kept[name]

    async def GetAlertRule(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self.get(self.rules, request.name, context)

    async def CreateAlertRule(self, request: Any, context: Any) -> Any:  # noqa: N802
        rule = request.alert_rule
        rule.name, rule.etag = f"alertRules/{request.alert_rule_id}", "1"
        rule.evaluation_interval.FromSeconds(10)
        self.rules[rule.name] = rule
        return rule

    async def UpdateAlertRule(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.calls.append(f"{','.join(request.update_mask.paths)} of {request.alert_rule.etag}")
        rule = self.rules[request.alert_rule.name]
        request.update_mask.MergeMessage(request.alert_rule, rule, True, True)
        rule.etag += "+"
        return rule

    async def DeleteAlertRule(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self.get(self.rules, request.name, context)
        del self.rules[request.name]
        return Empty()

    async def ListAlertRules(self, request: Any, context: Any) -> Any:  # noqa: N802
        return alerts_pb2.ListAlertRulesResponse(alert_rules=self.rules.values())

    async def GetChannel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self.get(self.channels, request.name, context)

    async def CreateChannel(self, request: Any, context: Any) -> Any:  # noqa: N802
        request.channel.name = f"channels/{request.channel_id}"
        self.channels[request.channel.name] = request.channel
        return request.channel

    async def ListAlerts(self, request: Any, context: Any) -> Any:  # noqa: N802
        alert = alerts_pb2.Alert(name="alerts/a1", rule="alertRules/high", severity=4, state=3, value=float("nan"))
        alert.start_time.FromSeconds(1_795_249_800)
        return alerts_pb2.ListAlertsResponse(alerts=[alert])

    async def AcknowledgeAlert(self, request: Any, context: Any) -> Any:  # noqa: N802
        return alerts_pb2.Alert(name=request.name, acknowledged_by=request.actor)


@pytest_asyncio.fixture(loop_scope="module")
async def alerts() -> AsyncIterator[tuple[Alerts, str]]:
    server, servicer = grpc.aio.server(), Alerts()
    alerts_pb2_grpc.add_AlertServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


def change(path: Path, replacements: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in replacements.items():
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(
        """
rules:
- name: high
  severity: HIGH
  channels: [channels/ops]
  conditions: [{metric: cpu, operator: GT, threshold: 0.9}]
channels:
- name: ops
  email: {to: [ops@example.com]}
"""
    )
    return path


async def test_applying_rules_twice_changes_nothing_the_second_time(
    alerts: tuple[Alerts, str], rules_file: Path
) -> None:
    servicer, target = alerts
    dry = await airis(target, "rules", "apply", "--dry-run", str(rules_file))
    assert dry.stdout == "channels/ops created (not done)\nalertRules/high created (not done)\n"
    assert not servicer.rules
    first = await airis(target, "rules", "apply", str(rules_file))
    assert (first.returncode, first.stdout) == (0, "channels/ops created\nalertRules/high created\n")
    second = await airis(target, "rules", "apply", str(rules_file))
    assert second.stdout == "channels/ops unchanged\nalertRules/high unchanged\n"
    change(rules_file, {"HIGH": "CRITICAL", "0.9": "0"})
    third = await airis(target, "rules", "apply", str(rules_file))
    assert third.stdout == "channels/ops unchanged\nalertRules/high updated: severity, conditions\n"
    assert servicer.calls == ["conditions,severity of 1"]
    assert servicer.rules["alertRules/high"].severity == alerts_pb2.AlertRule.CRITICAL
    listed = await airis(target, "rules", "list")
    assert "AVG(cpu, 60s) > 0" in listed.stdout
    assert (await airis(target, "rules", "delete", "high")).stdout == "alertRules/high deleted\n"
    missing = await airis(target, "rules", "delete", "high")
    assert (missing.returncode, missing.stderr) == (1, "airis: There is no alertRules/high (NOT_FOUND).\n")


async def test_alerts_are_listed_and_acknowledged(alerts: tuple[Alerts, str]) -> None:
    _, target = alerts
    listed = await airis(target, "alerts", "list")
    assert "alerts/a1" in listed.stdout
    assert "CRITICAL" in listed.stdout
    acknowledged = await airis(target, "alerts", "ack", "a1", "--actor", "kim")
    assert acknowledged.stdout == "alerts/a1 is acknowledged by kim.\n"
    document = json.loads((await airis(target, "alerts", "list", "-o", "json")).stdout)
    assert document["alerts"][0]["value"] == "NaN"


async def test_help_is_quick_and_loads_nothing_that_it_does_not_need() -> None:
    script = (
        "import sys, time\n"
        "from airis.client.cli import app\n"
        "loaded = [name for name in ('grpc', 'google.protobuf', 'services', 'yaml') if name in sys.modules]\n"
        "print(loaded, time.process_time())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    loaded, _, seconds = out.decode().rpartition(" ")
    assert loaded == "[]"
    assert float(seconds) < 1.0
