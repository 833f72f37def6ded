"""What the benchmarks run against: our platform or a peer, started in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

SIGNALS = ("metrics", "logs", "traces")

DIRECTLY = (("grpc.enable_http_proxy", 0),)
"""Options of a gRPC channel: what is measured is on this machine, whatever proxy the environment names."""

GRPC_METHODS = {
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}


@dataclass(frozen=True)
class Endpoint:
    """Where one signal's OTLP goes.

    Attributes:
        kind: "grpc", or "http" for protobuf in the body of a POST.
        address: Host and port: "127.0.0.1:4317".
        path: Of HTTP: "/v1/metrics"; of gRPC the method.
        headers: Sent with each request.
        convert: Makes the body of an OTLP request, where a server takes another format; before the clock starts, so far
            as requests are prepared. A function of a module, as it is sent to the generator's processes.
        refused: Tells of an answer that says success how many items it refuses all the same, and why, where that is not
            OTLP's partial success. A function of a module, too.
    """

    kind: Literal["grpc", "http"]
    address: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    convert: Callable[[bytes], bytes] | None = None
    refused: Callable[[bytes], tuple[int, str]] | None = None


def otlp_grpc(signal: str, address: str) -> Endpoint:
    """OTLP/gRPC's endpoint of a signal."""
    return Endpoint("grpc", address, GRPC_METHODS[signal])


class Target(Protocol):
    """One server, or several that belong together.

    A target is used as follows, and may be used again after: `start`, then load, `stored` and the figures, `stop`.

    Attributes:
        name: For people, with the version: "VictoriaMetrics 1.150".
        signals: Which of `SIGNALS` it takes.
        stores: Whether what it acknowledged can be read back; one that stores nothing is not checked for loss.
    """

    name: str
    signals: frozenset[str]
    stores: bool

    def start(self, directory: Path) -> None:
        """Starts with its data in an empty folder; returns when it takes requests.

        Raises:
            TargetError: It does not start; says what it printed.
        """

    def endpoint(self, signal: str) -> Endpoint:
        """Where a signal goes. Of a started target."""

    def pids(self) -> list[int]:
        """The processes whose CPU and memory count; their children are added."""

    def stored(self, signal: str) -> int:
        """How many items (points, records, spans) of `bench.payloads` can be read back now, exactly; 0 if none.

        What the target writes about itself does not count.
        """

    def disk_bytes(self) -> int:
        """What its data takes on disk now. The runner subtracts what it took before the load."""

    def stop(self) -> None:
        """Ends it; does nothing when it does not run. The folder belongs to the runner."""


@runtime_checkable
class Auditable(Protocol):
    """A target whose store can be counted from outside once it has stopped."""

    def audit(self, signal: str) -> Mapping[str, int]:
        """Counts that must each equal what was acknowledged, by what was counted: "distinct", "one-minute rollup"."""


class TargetError(Exception):
    """A target cannot do what was asked; says why."""
