"""What a container asks itself: `python -m services.healthcheck metrics|logs|traces|alerts|mesh`, without curl.

The service of this environment must say SERVING over gRPC, and be ready: with what keeps it from working if it is not.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.config import Configuration, read
from services.shared.errors import AirisError

SERVICES = ("metrics", "logs", "traces", "alerts", "mesh")

_SECONDS = 3.0
# What is asked is on this machine, whatever proxy the environment names.
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main() -> int:
    """Asks once.

    Returns:
        0 if the service works, 1 if not, with the reason on standard error, 2 when called wrongly.
    """
    if len(sys.argv) != 2 or sys.argv[1] not in SERVICES:
        print(f"usage: python -m services.healthcheck {'|'.join(SERVICES)}", file=sys.stderr)
        return 2
    try:
        fault = _fault(sys.argv[1], read())
    except AirisError as error:
        fault = error.message
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


def _fault(name: str, config: Configuration) -> str:
    ports = getattr(config, name)
    host = config.mesh.host if name == "mesh" else config.host
    at = config.model_copy(update={"host": _LOCAL.get(host, host)})
    with grpc.insecure_channel(at.address(ports.grpc_port), (("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            return f"{name} does not answer over gRPC: {error.code().name}"
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        return f"{name} says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
    try:
        _DIRECTLY.open(f"http://{at.address(ports.http_port)}/readyz", timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        return f"{name} is not ready: {error.read().decode(errors='replace').strip()}"
    except OSError as error:
        return f"{name} does not answer over HTTP: {error}"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
