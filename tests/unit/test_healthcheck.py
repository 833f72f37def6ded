"""What a container asks itself, on a machine with a proxy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services import healthcheck


class Ready(BaseHTTPRequestHandler):
    """Says that it is ready."""

    def do_GET(self) -> None:
        assert self.path == "/readyz"
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[health.HealthServicer]:
    """A service of this environment that is well."""
    monkeypatch.setattr("sys.argv", ["healthcheck", "metrics"])
    servicer = health.HealthServicer()
    over_grpc = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, over_grpc)
    monkeypatch.setenv("AIRIS_METRICS__GRPC_PORT", str(over_grpc.add_insecure_port("127.0.0.1:0")))
    over_grpc.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as over_http:
        monkeypatch.setenv("AIRIS_METRICS__HTTP_PORT", str(over_http.server_port))
        serving = threading.Thread(target=over_http.serve_forever)
        serving.start()
        yield servicer
        over_http.shutdown()
        serving.join()
    over_grpc.stop(None).wait()


@pytest.mark.usefixtures("service")
def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        # Nothing listens there.
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert healthcheck.main() == 0


def test_one_that_does_not_serve_is_not_healthy(
    service: health.HealthServicer, capsys: pytest.CaptureFixture[str]
) -> None:
    service.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert healthcheck.main() == 1
    assert capsys.readouterr().err == "metrics says NOT_SERVING\n"
