"""`airis canary` on the whole platform through Envoy: what works is told to work, and what was killed is told of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from platform_process import ROOT, Platform, eventually
from service_process import free_offset

SIGNALS = ("metrics", "logs", "traces", "alerts")
OTHERS = ("metrics", "traces")
GOOD, PATIENCE = 2, 200.0

# A machine with other work to do starts a service in half a minute.
pytestmark = pytest.mark.timeout(900)


class Canary:
    """The command in a process of its own, and the lines that it prints."""

    def __init__(self, platform: Platform, *arguments: str) -> None:
        self.port = 9107 + free_offset(9107)
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "airis"),
                *("canary", "--endpoint", platform.edge, "--output", "json", "--report", "1"),
                *("--metrics-port", str(self.port), *arguments),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def sum(self, signal_name: str, name: str) -> int:
        """What the intervals told of a signal so far, together."""
        told = [line for line in list(self.lines) if line["kind"] == "interval" and line["signal"] == signal_name]
        return sum(line[name] for line in told)

    def good(self, signal_name: str) -> int:
        return self.sum(signal_name, "rounds") - self.sum(signal_name, "failed")

    def end(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Ctrl-C: the exit code, and the summary of each signal."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(250)
        summary = eventually(lambda: [line for line in self.lines if line["kind"] == "summary"])[0]
        assert summary["ok"] == (code == 0)
        return code, {each["signal"]: each for each in summary["signals"]}


def test_a_canary_sees_every_signal_once_and_leaves_no_rule_behind(platform: Platform) -> None:
    canary = Canary(platform, "--interval", "2", "--within", "60", "--name", "e2e")
    eventually(lambda: all(canary.good(name) >= GOOD for name in SIGNALS), within=PATIENCE)
    told = urllib.request.urlopen(f"http://127.0.0.1:{canary.port}/metrics", timeout=10).read().decode()
    assert "airis_canary_rounds_total{" in told
    assert "airis_canary_visible_duration_seconds_bucket{" in told
    rules = {rule["name"] for rule in platform.get("/api/v1/alertRules")["alertRules"]}
    assert "alertRules/airis-canary-e2e" in rules
    code, summary = canary.end()
    assert summary.keys() == set(SIGNALS)
    for name, each in summary.items():
        assert each["rounds"] - each["failed"] >= GOOD, name
        assert (each["missing"], each["doubled"], each["objective"]) == (0, 0, 0.999), each
        # A machine that is busy misses times and deadlines, and that is told: not that something is lost.
        assert each["availability"] == 1 - each["failed"] / each["rounds"]
    assert code == int(any(each["misses"] for each in summary.values()))
    rules = {rule["name"] for rule in platform.get("/api/v1/alertRules")["alertRules"]}
    assert "alertRules/airis-canary-e2e" not in rules
    # The platform can be asked for what its canary saw.
    query = {
        "metric": "airis.canary.visible.duration", "aggregation": "QUANTILE", "quantile": 0.95,
        "filter": "service.name = airis-canary", "groupBy": ["signal"],
    }  # fmt: skip

    def stored() -> bool:
        series = platform.post("/api/v1/metrics:query", query).get("series", [])
        return {each["labels"]["signal"] for each in series} == set(SIGNALS)

    eventually(stored, within=PATIENCE)


def test_a_service_that_is_killed_is_told_of_and_loses_nothing(platform: Platform) -> None:
    canary = Canary(platform, "--interval", "2", "--within", "60", "--signals", "metrics,logs,traces")
    eventually(lambda: all(canary.good(name) >= GOOD for name in ("logs", *OTHERS)), within=PATIENCE)
    killed = 0

    def logs_fail() -> bool:
        # Envoy and the client bridge one restart: so it dies until the canary has something to tell.
        nonlocal killed
        process = platform.state()["logs"]
        if process["pid"] is not None:
            os.kill(process["pid"], signal.SIGKILL)
            killed += 1
        return canary.sum("logs", "failed") > 0

    before = {name: canary.good(name) for name in OTHERS}
    eventually(logs_fail, within=PATIENCE)
    # Nobody else was hurt.
    eventually(lambda: all(canary.good(name) > before[name] for name in OTHERS), within=PATIENCE)
    eventually(lambda: platform.state()["logs"]["state"] == "healthy", within=PATIENCE)
    good = canary.good("logs")
    eventually(lambda: canary.good("logs") > good, within=PATIENCE)
    code, summary = canary.end()
    logs = summary["logs"]
    assert killed >= 1
    assert code == 1
    assert logs["failed"] > 0
    assert logs["availability"] < logs["objective"] < 1
    assert logs["budgetUsed"] > 1
    assert {"UNAVAILABLE", "DEADLINE_EXCEEDED"} & {error["code"] for error in logs["errors"]}
    assert any(miss.startswith("availability") for miss in logs["misses"])
    for name, each in summary.items():
        assert (each["missing"], each["doubled"]) == (0, 0), (name, each)
