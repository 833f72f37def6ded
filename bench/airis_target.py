"""Our embedded platform as a target: `airis up` with a data folder and ports of its own, loaded through Envoy.

What is stored is asked of the platform's own queries while it runs, and counted in ClickHouse once it has stopped.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal as signals
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import psutil
from airis.common.v1 import aggregation_pb2
from airis.logs.v1 import logs_pb2, logs_pb2_grpc
from airis.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from airis.traces.v1 import traces_pb2, traces_pb2_grpc
from google.protobuf.timestamp_pb2 import Timestamp

from bench import processes
from bench.airis_audit import Audit, audit
from bench.payloads import METRIC_NAMES, SERVICES
from bench.results import OURS, WITH_FRONTENDS
from bench.target import DIRECTLY, SIGNALS, Endpoint, TargetError, otlp_grpc
from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import DEFAULT_TENANT
from services.shared.auth.roles import Roles
from services.supervisor import ports

ROOT = Path(__file__).resolve().parent.parent
_READY = "AIRIS is ready"
# The `airis` command of the interpreter that runs the benchmark.
_UP = "from airis.client.cli import main; main()"
_START_SECONDS, _STOP_SECONDS, _QUERY_SECONDS = 300.0, 90.0, 60.0
_CHILDREN_SECONDS = 30.0
_DAY = 86_400

OFFSETS = range(10_000, 22_000, 10)
"""Of ports, to choose a free one from."""


class AirisTarget:
    """`airis up` without demo input.

    Args:
        through_envoy: Whether load goes to Envoy's OTLP port, as users send it, or to the services' own ports.
        authenticated: Whether each call needs a token, and shows one.
        offsets: Port offsets to choose a free one from.
    """

    signals = frozenset(SIGNALS)
    stores = True

    def __init__(
        self,
        *,
        through_envoy: bool = True,
        authenticated: bool = False,
        frontends: int = 0,
        offsets: range = OFFSETS,
    ) -> None:
        self.name = (WITH_FRONTENDS if frontends else OURS) + ("" if through_envoy else " without Envoy")
        self._frontends = frontends
        self._through_envoy = through_envoy
        self._authenticated = authenticated
        self._headers: dict[str, str] = {}
        self._offsets = offsets
        self._offset = 0
        self._directory = Path()
        # Of what is stopped, until it is started again.
        self._audits: dict[str, Audit] = {}
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=200)
        self.start_seconds = 0.0

    def start(self, directory: Path) -> None:
        """Starts the platform; returns when it says that it is ready.

        Raises:
            TargetError: It does not; has its last line.
        """
        self._directory, self._offset = directory, _free_offset(self._offsets, self._frontends)
        self._lines.clear()
        self._audits.clear()
        command = [sys.executable, "-P", "-c", _UP, "up", "--data-dir", str(directory)]
        command += ["--auth"] if self._authenticated else []
        command += ["--frontends", str(self._frontends)] if self._frontends else []
        ready = threading.Event()
        began = time.monotonic()
        self._process = subprocess.Popen(
            [*command, "--port-offset", str(self._offset)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "COLUMNS": "160"},
        )
        threading.Thread(target=self._read, args=(self._process, ready), daemon=True).start()
        in_time = ready.wait(_START_SECONDS)
        self.start_seconds = time.monotonic() - began
        if not in_time or self._process.poll() is not None:
            lines = self._lines[-1] if self._lines else "nothing"
            self.stop()
            raise TargetError(f"AIRIS does not start; it printed last: {lines.strip()[:500]}")
        self._headers = {"authorization": f"Bearer {_token(directory)}"} if self._authenticated else {}

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line)
            if line.strip() == _READY:
                ready.set()
        # What it prints ends before it does.
        process.wait()
        ready.set()

    def output(self) -> str:
        """What it printed last."""
        return "".join(self._lines)

    def endpoint(self, signal: str) -> Endpoint:
        """OTLP/gRPC at Envoy, or at the service."""
        port = ports.ENVOY["OTLP/gRPC"] if self._through_envoy else ports.GRPC[signal]
        return replace(otlp_grpc(signal, self.address(port)), headers=self._headers)

    def address(self, port: int) -> str:
        """Host and port of one of the platform's ports: `address(8003)` is the traces service."""
        return f"{ports.LOOPBACK}:{port + self._offset}"

    def pids(self) -> list[int]:
        """The supervisor; everything else are its children."""
        return [self._process.pid] if self._process is not None else []

    def stored(self, signal: str) -> int:
        """What the platform's own queries count.

        Raises:
            TargetError: They are refused.
        """
        try:
            return self._stored(signal)
        except grpc.RpcError as error:
            raise TargetError(f"AIRIS does not say what it stored: {error.code().name}: {error.details()}") from error

    def _stored(self, signal: str) -> int:
        # Whole days, so that what is rolled up is read where that is exact.
        day = int(time.time()) // _DAY
        first, last = Timestamp(seconds=(day - 2) * _DAY), Timestamp(seconds=(day + 2) * _DAY)
        metadata = tuple(self._headers.items())
        with grpc.insecure_channel(self.address(ports.GRPC[signal]), DIRECTLY) as channel:
            if signal == "metrics":
                metrics = metrics_pb2_grpc.MetricsServiceStub(channel)
                return sum(_points(metrics, name, first, last, metadata) for name in METRIC_NAMES)
            if signal == "logs":
                logs = logs_pb2_grpc.LogServiceStub(channel)
                counting = logs_pb2.CountLogsRequest(start_time=first, end_time=last, group_by=["service"])
                counting.step.seconds = _DAY
                counts = logs.CountLogs(counting, timeout=_QUERY_SECONDS, metadata=metadata).groups
                return sum(group.count for group in counts if group.fields["service"] in SERVICES)
            traces = traces_pb2_grpc.TraceServiceStub(channel)
            listing = traces_pb2.ListServicesRequest(start_time=first, end_time=last, page_size=1000)
            services = traces.ListServices(listing, timeout=_QUERY_SECONDS, metadata=metadata).services
            return sum(service.span_count for service in services if service.service in SERVICES)

    def disk_bytes(self) -> int:
        """What the three signals' stores and journals take; PostgreSQL and Redis hold no items."""
        return sum(processes.disk_bytes(self._directory / signal) for signal in SIGNALS)

    def stop(self) -> None:
        """Ctrl-C; whoever does not end is killed."""
        if self._process is None:
            return
        children = _children(self._process.pid)
        if self._process.poll() is None:
            self._process.send_signal(signals.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # Its children have a parent-death signal.
                self._process.kill()
                self._process.wait()
        # Whoever still ends would write into a folder that is being removed.
        psutil.wait_procs(children, _CHILDREN_SECONDS)
        self._process = None

    def audit(self, signal: str) -> Mapping[str, int]:
        """Counts items, distinct ones and those in each rollup in the stopped platform's ClickHouse.

        Raises:
            TargetError: It cannot be read.
        """
        return self._audit(signal).counts

    def table_bytes(self, signal: str) -> Mapping[str, int]:
        """Bytes of each table's active parts in the stopped platform's ClickHouse, indexes included."""
        return self._audit(signal).bytes

    def _audit(self, signal: str) -> Audit:
        if signal not in self._audits:
            names = METRIC_NAMES if signal == "metrics" else SERVICES
            self._audits[signal] = audit(self._directory, signal, names)
        return self._audits[signal]


def _token(directory: Path) -> str:
    # As `airis auth token --role editor` makes it.
    may = Roles(contract_permissions()).permissions(["editor"])
    return TokenIssuer(KeyFolder(directory)).issue(subject="bench", tenant=DEFAULT_TENANT, permissions=may)


def _points(
    stub: metrics_pb2_grpc.MetricsServiceStub,
    name: str,
    first: Timestamp,
    last: Timestamp,
    metadata: Sequence[tuple[str, str]],
) -> int:
    counting = aggregation_pb2.Aggregation.COUNT
    request = metrics_pb2.QueryMetricsRequest(metric=name, aggregation=counting, start_time=first, end_time=last)
    request.step.seconds = 4 * _DAY
    answer = stub.QueryMetrics(request, timeout=_QUERY_SECONDS, metadata=metadata)
    return int(sum(point.value for series in answer.series for point in series.points))


def _free_offset(offsets: range, frontends: int) -> int:
    for offset in random.sample(offsets, len(offsets)):
        if not ports.busy(port + offset for port in (*ports.ALL, *ports.of_frontends(frontends))):
            return offset
    raise TargetError("no port offset of which all ports are free")


def _children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []
