"""The OpenAPI document: whole, without loose ends, and as the contracts say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2

from deploy.renderers.signals import read_signals
from resilience.contract import read_descriptor_set

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = read_signals(read_descriptor_set(ROOT / "gen/airis.binpb"))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    text = (ROOT / "docs/openapi.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for item in node.values():
            yield from references(item)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def test_every_reference_leads_somewhere_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    used = set(references(document))
    for reference in used:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target
    kinds = document["components"]
    declared = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in kinds[kind]}
    assert used == declared


def test_every_rpc_with_a_rest_path_is_an_operation(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: (verb, path) for path, verb, operation in operations(document)}
    assert len(found) == len(list(operations(document)))
    expected = {}
    for signal in SIGNALS:
        for method in signal.service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            if verb is not None:
                expected[method.name] = (verb, getattr(rule, verb))
    assert {name: verb for name, (verb, _) in found.items()} == {name: verb for name, (verb, _) in expected.items()}
    for name, (_, template) in expected.items():
        # Variables that are resource names have their collection in the path: {name=silences/*}.
        shape = re.sub(r"\{[a-z_.]+=([a-zA-Z]+)/\*\}", r"\1/{}", template)
        assert re.sub(r"\{[a-zA-Z_]+\}", "{}", found[name][1]) == re.sub(r"\{[a-z_]+\}", "{}", shape)


def test_every_variable_of_a_path_is_a_parameter(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        declared = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
        assert declared == re.findall(r"\{(\w+)\}", path)
        assert all(each["required"] for each in operation.get("parameters", []) if each["in"] == "path")
        names = [each["name"] for each in operation.get("parameters", [])]
        assert len(set(names)) == len(names)


def test_every_operation_needs_a_token_and_says_which_permission(document: dict[str, Any]) -> None:
    assert document["security"] == [{"token": []}]
    scheme = document["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    permissions = {
        policy.method.rpartition("/")[2]: policy.permission for signal in SIGNALS for policy in signal.policies
    }
    for _, _, operation in operations(document):
        assert operation["x-airis-permission"] == permissions[operation["operationId"]]
        assert permissions[operation["operationId"]] in operation["description"]
        assert {"200", "400", "401", "403", "404", "429", "503"} <= operation["responses"].keys()


def test_comments_limits_and_json_forms_are_those_of_the_contract(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    metric = schemas["metrics.v1.Metric"]
    assert metric["required"] == ["name"]
    assert all(each.get("description") for each in metric["properties"].values())
    assert metric["properties"]["timestamp"]["format"] == "date-time"
    assert metric["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    kind = schemas["metrics.v1.Metric.Kind"]
    assert kind["enum"][:2] == ["KIND_UNSPECIFIED", "GAUGE"]
    assert "`GAUGE`: " in kind["description"]
    query = document["paths"]["/api/v1/metrics:query"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    asked = schemas[query["$ref"].rpartition("/")[2]]["properties"]
    assert (asked["metric"]["minLength"], asked["metric"]["maxLength"]) == (1, 255)
    assert (asked["quantile"]["minimum"], asked["quantile"]["maximum"]) == (0, 1)
    assert asked["groupBy"]["maxItems"] == 16
    described = schemas["metrics.v1.MetricDescriptor"]["properties"]["seriesCount"]
    assert (described["type"], described["format"]) == ("string", "int64")
    assert schemas["Error"]["required"] == ["code", "message", "details"]
    watch = document["paths"]["/api/v1/metrics:watch"]["post"]["responses"]["200"]
    assert watch["content"]["application/json"]["schema"]["type"] == "array"
