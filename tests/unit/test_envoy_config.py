"""The generated Envoy configuration says what the contracts say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2


def load_render() -> ModuleType:
    # By its path: the installed package `envoy` hides the folder.
    path = Path(__file__).resolve().parents[2] / "envoy" / "render.py"
    specification = importlib.util.spec_from_file_location("envoy_render", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # Dataclasses look their module up.
    specification.loader.exec_module(module)
    return module


render = load_render()


@pytest.fixture(scope="module")
def rendered() -> dict[str, Any]:
    template = yaml.safe_load(render.TEMPLATE.read_text())
    result: dict[str, Any] = render.render(template, render.read_services(render.DESCRIPTORS))
    return result


def routes(configuration: dict[str, Any], name: str) -> list[dict[str, Any]]:
    (listener,) = [each for each in configuration["static_resources"]["listeners"] if each["name"] == name]
    connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, Any]] = connections["route_config"]["virtual_hosts"][0]["routes"]
    return found


def test_what_is_committed_is_what_the_contracts_give(rendered: dict[str, Any]) -> None:
    assert yaml.load(render.OUTPUT.read_text(), Loader=yaml.CSafeLoader) == rendered


def test_each_rpc_has_one_route_with_its_policys_deadline(rendered: dict[str, Any]) -> None:
    timeouts = [
        (each["match"]["path"], each["route"]["timeout"], each["route"]["cluster"])
        for each in routes(rendered, "edge")
        if "path" in each["match"]
    ]
    services = render.read_services(render.DESCRIPTORS)
    assert sorted(timeouts) == sorted(
        (f"/{signal.service}/{method}", policy.deadline, signal.cluster)
        for signal in render.SIGNALS
        for method, policy in services[signal.service].items()
    )


def test_otlp_has_the_deadline_of_the_services_own_ingest(rendered: dict[str, Any]) -> None:
    edge = {
        each["match"]["path"]: each["route"]["timeout"] for each in routes(rendered, "edge") if "path" in each["match"]
    }
    ingest = {
        "metrics": edge["/airis.metrics.v1.MetricsService/IngestMetrics"],
        "logs": edge["/airis.logs.v1.LogService/IngestLogs"],
        "traces": edge["/airis.traces.v1.TraceService/IngestSpans"],
    }
    for listener, suffix in (("otlp-grpc", ""), ("otlp-http", "-http")):
        found = {each["route"]["cluster"]: each["route"]["timeout"] for each in routes(rendered, listener)}
        assert found == {f"{name}{suffix}": timeout for name, timeout in ingest.items()}


def test_everything_listens_on_loopback_only(rendered: dict[str, Any]) -> None:
    sockets = [rendered["admin"], *rendered["static_resources"]["listeners"]]
    assert {each["address"]["socket_address"]["address"] for each in sockets} == {"127.0.0.1"}


def test_an_rpc_without_a_policy_fails_the_build(tmp_path: Path) -> None:
    method = descriptor_pb2.MethodDescriptorProto(name="Get")
    service = descriptor_pb2.ServiceDescriptorProto(name="NewService", method=[method])
    file = descriptor_pb2.FileDescriptorProto(name="new.proto", package="airis.new.v1", service=[service])
    descriptors = tmp_path / "new.binpb"
    descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())
    with pytest.raises(ValueError, match=r"airis\.new\.v1\.NewService\.Get has no airis\.policy\.v1\.policy"):
        render.read_services(descriptors)
