"""The contracts: complete, and the vendored ones equal to those of the packages that bring their stubs."""

from __future__ import annotations

from pathlib import Path

import pytest
from airis.alerts.v1 import alerts_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2
from google.api import annotations_pb2, field_behavior_pb2, http_pb2
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as otlp_logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as otlp_metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp_traces
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2 as otlp_log
from opentelemetry.proto.metrics.v1 import metrics_pb2 as otlp_metric
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp_trace

from resilience.contract import policies

ROOT = Path(__file__).parents[2]
SERVICES = (metrics_pb2, logs_pb2, traces_pb2, alerts_pb2)
PACKAGED = (
    annotations_pb2, field_behavior_pb2, http_pb2, error_details_pb2, status_pb2,
    otlp_logs, otlp_metrics, otlp_traces, common_pb2, otlp_log, otlp_metric, resource_pb2, otlp_trace,
)  # fmt: skip


def descriptor_set() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    compiled = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "gen/airis.binpb").read_bytes())
    return {file.name: file for file in compiled.file}


def shape(message: descriptor_pb2.DescriptorProto) -> dict[str, object]:
    return {
        "fields": sorted((f.number, f.name, f.type, f.label, f.type_name) for f in message.field),
        "nested": {nested.name: shape(nested) for nested in message.nested_type},
        "enums": {e.name: sorted((v.number, v.name) for v in e.value) for e in message.enum_type},
    }


@pytest.mark.parametrize("module", PACKAGED, ids=lambda module: module.DESCRIPTOR.name)
def test_a_vendored_proto_is_the_one_its_package_was_made_from(module: object) -> None:
    packaged = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(packaged)  # type: ignore[attr-defined]
    vendored = descriptor_set()[packaged.name]
    assert {m.name: shape(m) for m in vendored.message_type} == {m.name: shape(m) for m in packaged.message_type}
    assert {e.name: sorted((v.number, v.name) for v in e.value) for e in vendored.enum_type} == {
        e.name: sorted((v.number, v.name) for v in e.value) for e in packaged.enum_type
    }


def test_every_rpc_has_a_policy_with_a_deadline_unless_it_streams() -> None:
    found = {policy.method: policy for policy in policies(module.DESCRIPTOR for module in SERVICES)}
    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                policy = found[f"/{service.full_name}/{method.name}"]
                assert (policy.deadline is None) == method.server_streaming
                assert policy.permission.split(".")[0] == service.full_name.split(".")[1]
                assert policy.policy.objective.availability == pytest.approx(0.999)
                assert policy.policy.HasField("retry") <= policy.idempotent


def test_every_rpc_but_the_bidirectional_ones_has_a_rest_path_of_its_own() -> None:
    seen: dict[tuple[str, str], str] = {}
    for module in SERVICES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[annotations_pb2.http]
                verb = rule.WhichOneof("pattern")
                if method.client_streaming:
                    assert verb is None
                    continue
                path = getattr(rule, verb)
                assert path.startswith("/api/v1/")
                assert seen.setdefault((verb, path), method.full_name) == method.full_name


def test_every_package_has_a_readme() -> None:
    for folder in (ROOT / "proto/airis").glob("*/v1"):
        assert (folder / "README.md").is_file(), folder
