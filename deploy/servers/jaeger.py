"""Jaeger v2: takes OTLP, keeps traces in memory, and answers over its query API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import yaml

from deploy.servers.http import get
from deploy.servers.recipe import GoProgram
from deploy.servers.server import Server
from services.supervisor.process import Command


class Jaeger(Server):
    """`config` may hold, as JSON, "backend": what stands below `jaeger_storage.backends.<name>`, such as
    {"backend": '{"grpc": {"endpoint": "127.0.0.1:8003", "tls": {"insecure": true}}}'}; or, as YAML, "file": the whole
    configuration, in which `${port:NAME}` stands for the port of this name. Without either, traces are in memory, and a
    restart forgets them.
    """

    recipe = GoProgram(
        name="jaeger", version="1.76.0", megabytes=85, package="github.com/jaegertracing/jaeger/cmd/jaeger"
    )
    port_names: ClassVar[tuple[str, ...]] = ("query_grpc", "query_http", "otlp_grpc", "otlp_http", "health", "metrics")

    @property
    def settings(self) -> dict[str, str]:
        """The trace store on it."""
        return {
            "AIRIS_TRACES__STORE": "jaeger",
            "AIRIS_TRACES__JAEGER__OTLP_TARGET": self.address_of("otlp_grpc"),
            "AIRIS_TRACES__JAEGER__QUERY_TARGET": self.address_of("query_grpc"),
        }

    @property
    def url(self) -> str:
        """The address of its web interface and JSON API."""
        return f"http://{self.address_of('query_http')}"

    def command(self, installation: Path) -> Command:
        """Writes the configuration anew."""
        file = self.data / "config.yaml"
        if "file" in self.config:
            text = self.config["file"]
            for name, port in self.ports.items():
                text = text.replace(f"${{port:{name}}}", str(port))
        else:
            text = yaml.safe_dump(self._configuration(), sort_keys=False)
        file.write_text(text)
        # Asked to end, it would wait 10 s for queries, although there are none.
        return Command(arguments=[str(installation / "bin" / "jaeger"), "--config", str(file)], stop_seconds=2.0)

    def answers(self) -> bool:
        """Whether all of its parts are ready, and it answers queries."""
        return get(self.address_of("health"), "/status")[0] == 200 and get(self.address_of("query_http"), "/")[0] == 200

    def _configuration(self) -> dict[str, Any]:
        backend = json.loads(self.config.get("backend", '{"memory": {"max_traces": 100000}}'))
        host, _, metrics_port = self.address_of("metrics").partition(":")
        reader = {"pull": {"exporter": {"prometheus": {"host": host, "port": int(metrics_port)}}}}
        return {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp"],
                        "processors": ["batch"],
                        "exporters": ["jaeger_storage_exporter"],
                    }
                },
                "telemetry": {
                    "resource": {"service.name": "jaeger"},
                    "metrics": {"level": "basic", "readers": [reader]},
                    "logs": {"level": "info"},
                },
            },
            "extensions": {
                "healthcheckv2": {"use_v2": True, "http": {"endpoint": self.address_of("health")}},
                "jaeger_storage": {"backends": {"traces": backend}},
                "jaeger_query": {
                    "storage": {"traces": "traces"},
                    "grpc": {"endpoint": self.address_of("query_grpc")},
                    "http": {"endpoint": self.address_of("query_http")},
                },
            },
            "receivers": {
                "otlp": {
                    "protocols": {
                        "grpc": {"endpoint": self.address_of("otlp_grpc")},
                        "http": {"endpoint": self.address_of("otlp_http")},
                    }
                }
            },
            # Small and quick: a test waits for what it sent.
            "processors": {"batch": {"timeout": "50ms"}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "traces"}},
        }
