"""What must hold of a platform while it is fuzzed: its processes, their memory, its logs, and what it answers."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import psutil
from platform_process import Platform, eventually
from service_process import ServiceProcess

from tests.fuzz import texts
from tests.fuzz.addresses import Addresses
from tests.fuzz.contract import MESH, SIGNALS
from tests.fuzz.report import Report

MOST_BYTES = 2500 << 20
"""Resident, of one process at any time. What is allowed to be under way at once may take this much."""
MOST_GROWTH_BYTES = 900 << 20
_FAULTS = re.compile(r"unexpected_error|Traceback|\"level\": \"(error|critical)\"|\bERROR: |panicked|Segmentation")
# Of a console that did not keep up.
_LEFT_OUT = re.compile(r"airis +\| \d+ lines were left out")
# gRPC's own lines say that a header is wrong, and nothing of it.
_ALLOWED = re.compile(r"hpack_parser\.cc|chttp2_|alert_.*delivery|\"path\"")


class Watched:
    """A platform that is fuzzed, and a mesh beside it that knows no Consul.

    Args:
        folder: For its data.
        with_tokens: Whether it asks for tokens.
    """

    def __init__(self, folder: Path, *, with_tokens: bool) -> None:
        self.platform = Platform(folder, *(("--auth",) if with_tokens else ("--data-dir", str(folder))))
        beside = folder.parent / MESH
        self._mesh = ServiceProcess(MESH, beside, AIRIS_DISCOVERY__CONSUL__ADDRESS="127.0.0.1:9")
        self._mesh_log = beside / f"{MESH}.log"
        self._with_tokens = with_tokens
        self._is_up = False
        self._ended = Event()
        self._peaks: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._known: list[tuple[str, float]] = []

    def start(self) -> Addresses:
        """Starts it, and stores what must be there afterwards."""
        self.platform.start(300)
        self._is_up = True
        self._mesh.start()
        token = self._token() if self._with_tokens else ""
        self.addresses = Addresses(self.platform.offset, token, self._mesh.offset)
        self._store()
        self._pids = self._processes()
        self._first = self._memory()
        Thread(target=self._sample, daemon=True).start()
        return self.addresses

    def judge(self, report: Report) -> dict[str, Any]:
        """Notes what does not hold. Gives the memory of each process in MiB: first, most, last."""
        replay = "the whole run"
        with self._noting(report, "the processes are not those of the start", replay):
            assert self._processes() == self._pids, f"{self._pids}, then {self._processes()}"
        with self._noting(report, "it does not answer rightly afterwards", replay):
            eventually(self._answers, 60)
            self._store()
            eventually(self._answers, 60)
        last = self._memory()
        self._ended.set()
        figures = {
            name: [n >> 20 for n in (self._first[name], self._peaks[name], last.get(name, 0))] for name in self._first
        }
        for name, (first, peak, now) in figures.items():
            if peak > MOST_BYTES >> 20 or now - first > MOST_GROWTH_BYTES >> 20:
                report.found(f"memory of {name}", replay, f"MiB: {first} at first, at most {peak}, {now} at last")
        self._judge_log(report, replay)
        return figures

    def stop(self) -> None:
        """Ends what has started of it."""
        self._ended.set()
        if self._mesh.process is not None:
            self._mesh.kill()
        if not self._is_up:
            return
        children = self.platform.processes()
        try:
            self.platform.stop()
        except subprocess.TimeoutExpired:
            # On a machine that is busier than it can be; what was found is told all the same.
            assert self.platform.process is not None
            for process in (psutil.Process(self.platform.process.pid), *children):
                with contextlib.suppress(psutil.Error):
                    process.kill()

    @contextlib.contextmanager
    def _noting(self, report: Report, what: str, replay: str) -> Any:
        try:
            yield
        except (AssertionError, OSError, grpc.RpcError) as error:
            report.found(what, replay, repr(error))

    def _judge_log(self, report: Report, replay: str) -> None:
        of_the_mesh = self._mesh_log.read_text(errors="replace").splitlines(keepends=True)
        lines = [*self.platform.printed(), *(f"{MESH} {line}" for line in of_the_mesh)]
        judge_lines(lines, report, replay)
        for signal in (*SIGNALS, MESH):
            with urllib.request.urlopen(f"http://{self.addresses.http(signal)}/metrics", timeout=30) as response:
                page = response.read().decode()
            if texts.SECRET in page:
                at = page.index(texts.SECRET)
                report.found("a secret is in /metrics", replay, page[max(at - 300, 0) : at + 50])

    def _processes(self) -> dict[str, int]:
        # A worker of PostgreSQL comes and goes.
        found = {name: process["pid"] for name, process in self.platform.state().items()}
        assert self._mesh.process is not None
        assert self._mesh.process.poll() is None, f"the mesh ended:\n{self._mesh.log()}"
        return {**found, MESH: self._mesh.process.pid}

    def _memory(self) -> dict[str, int]:
        found = {}
        for name, pid in self._pids.items():
            with contextlib.suppress(psutil.Error):
                found[name] = psutil.Process(pid).memory_info().rss
        return found

    def _sample(self) -> None:
        while not self._ended.wait(0.3):
            for name, size in self._memory().items():
                self._peaks[name] = max(size, self._peaks.get(name, 0))

    def _token(self) -> str:
        command = [Path(sys.executable).parent / "airis", "auth", "token", "--role", "admin", "--tenant", "default"]
        where = ["--subject", "fuzz", "--data-dir", self.platform.data_dir]
        made = subprocess.run([*map(str, [*command, *where])], capture_output=True, text=True, timeout=120, check=True)
        return made.stdout.strip()

    def _call(self, verb: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.addresses.token}"} if self.addresses.token else {}
        status, answer = self.platform.call(verb, path, body, headers)
        assert status == 200, (verb, path, status, answer)
        return answer

    def _store(self) -> None:
        name, value = f"fuzz.known.{uuid.uuid4().hex}", float(len(self._known) + 1)
        trace = uuid.uuid4().hex
        self._call("POST", "/api/v1/metrics", {"metrics": [{"name": name, "value": value}], "waitFor": "QUERYABLE"})
        entry = {"message": name, "service": name, "level": "INFO", "traceId": trace}
        self._call("POST", "/api/v1/logs", {"entries": [entry], "waitFor": "QUERYABLE"})
        span = {"traceId": trace, "spanId": trace[:16], "operationName": name, "serviceName": name,
                "startTime": _rfc3339(time.time() - 1), "endTime": _rfc3339(time.time())}  # fmt: skip
        self._call("POST", "/api/v1/spans", {"spans": [span], "waitFor": "QUERYABLE"})
        self._known.append((name, value))

    def _answers(self) -> bool:
        for name, value in self._known:
            query = {"metric": name, "aggregation": "LAST", "startTime": _rfc3339(time.time() - 7200)}
            found = self._call("POST", "/api/v1/metrics:query", query)["series"]
            assert [point["value"] for series in found for point in series["points"]] == [value], found
            since = _rfc3339(time.time() - 7200)
            entries = self._call("GET", f"/api/v1/logs:search?filter=service%3D%22{name}%22&startTime={since}")[
                "entries"
            ]
            assert [entry["message"] for entry in entries] == [name], entries
            spans = self._call("GET", f"/api/v1/traces/{entries[0]['traceId']}")["spans"]
            assert [span["operationName"] for span in spans] == [name], spans
        self._call("GET", "/api/v1/alertRules")
        self.plain_calls()
        return True

    def plain_calls(self) -> None:
        """Calls as any client makes them, with a timeout and compressed, through Envoy to each service."""
        metadata = [("authorization", f"Bearer {self.addresses.token}")] if self.addresses.token else []
        with grpc.insecure_channel(self.addresses.edge) as channel:
            for path in (
                "/airis.metrics.v1.MetricsService/ListMetrics",
                "/airis.logs.v1.LogService/CountLogs",
                "/airis.traces.v1.TraceService/ListServices",
                "/airis.alerts.v1.AlertService/ListAlerts",
            ):
                for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                    channel.unary_unary(path)(b"", timeout=20, metadata=metadata, compression=compression)


def judge_lines(lines: list[str], report: Report, replay: str) -> None:
    """Notes what no log may have."""
    for number, line in enumerate(lines):
        if _LEFT_OUT.match(line):
            # They may be the very ones.
            report.found("lines of the log were left out", replay, line)
        if texts.SECRET in line and not line.startswith("envoy"):
            report.found("a secret is in the log", replay, line)
        elif texts.SECRET in line and texts.SECRET not in json.dumps(_path_of(line)):
            report.found("a secret is in Envoy's log", replay, line)
        if _FAULTS.search(line) and not _ALLOWED.search(line):
            report.found(f"a fault is in the log of {line.split()[0]}", replay, "".join(lines[number : number + 40]))


def _path_of(line: str) -> str:
    """What an access log has of the path, which is no place for secrets."""
    at = line.find("{")
    try:
        return str(json.loads(line[at:]).get("path"))
    except ValueError:
        return ""


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
