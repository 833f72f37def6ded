"""What is committed is what the contracts give, and every layer follows a change of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from contracts_copy import ROOT, changed, compile_protos

from deploy.render import render
from resilience.contract import airis_services, policies, read_descriptor_set

METRICS = "airis/metrics/v1/metrics.proto"
LABELS = "/airis.metrics.v1.MetricsService/ListLabels"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return render(compile_protos(ROOT / "proto", tmp_path_factory.mktemp("descriptors")))


def list_labels_policy() -> str:
    text = (ROOT / "proto" / METRICS).read_text()
    (found,) = re.findall(r"rpc ListLabels.*?(    option \(airis\.policy\.v1\.policy\) = \{.*?\n    \};\n)", text, re.S)
    return str(found)


def test_what_is_committed_is_what_the_contracts_give(generated: dict[str, str]) -> None:
    for path, text in generated.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run `make generate`"


def test_nothing_lies_beside_what_is_generated(generated: dict[str, str]) -> None:
    folders = [ROOT / "deploy" / name for name in ("grpc", "istio", "linkerd")]
    present = {str(file.relative_to(ROOT)) for folder in folders for file in folder.iterdir()}
    assert present <= set(generated)


def test_make_generate_and_make_check_cover_every_generated_folder(generated: dict[str, str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "-m deploy.render" in makefile
    (covered,) = re.findall(r"^GENERATED = (.*)$", makefile, re.M)
    assert {path.rpartition("/")[0] for path in generated} <= set(covered.split())


def test_an_rpc_without_a_policy_fails_the_build(tmp_path: Path) -> None:
    # The RPC before it has a policy too: take out the one that belongs to ListLabels.
    text = (ROOT / "proto" / METRICS).read_text()
    start = text.index("rpc ListLabels")
    old = text[start : text.index(list_labels_policy(), start) + len(list_labels_policy())]
    descriptors = changed(tmp_path, METRICS, old, old.replace(list_labels_policy(), ""))
    with pytest.raises(LookupError, match=r"MetricsService\.ListLabels has no airis\.policy\.v1\.policy"):
        render(descriptors)


def test_an_added_rpc_without_a_policy_fails_the_build(tmp_path: Path) -> None:
    added = "service MetricsService {\n  rpc Forgotten(ListLabelsRequest) returns (ListLabelsResponse);\n"
    descriptors = changed(tmp_path, METRICS, "service MetricsService {\n", added)
    with pytest.raises(LookupError, match=r"MetricsService\.Forgotten has no airis\.policy\.v1\.policy"):
        render(descriptors)


def test_the_reader_keeps_a_descriptor_set_apart_from_the_programs_own_contracts(tmp_path: Path) -> None:
    old = "rpc ListLabels"
    descriptors = changed(tmp_path, METRICS, old, old)
    files = read_descriptor_set(descriptors)
    assert {service.full_name.split(".")[1] for service in airis_services(files)} == {
        "alerts", "logs", "metrics", "traces",
    }  # fmt: skip
    assert LABELS in {policy.method for policy in policies(f for f in files if f.package.startswith("airis."))}


def test_a_changed_policy_changes_every_layer(tmp_path: Path, generated: dict[str, str]) -> None:
    policy = list_labels_policy()
    new = policy
    for before, after in (
        ('deadline: "10s"', 'deadline: "7s"'),
        ("max_attempts: 3", "max_attempts: 5"),
        ('permission: "metrics.read"', 'permission: "metrics.inspect"'),
        ('bulkhead: "query"', 'bulkhead: "watch"'),
        ("per_second: 500", "per_second: 33"),
    ):
        assert before in new
        new = new.replace(before, after)
    text = (ROOT / "proto" / METRICS).read_text()
    start = text.index("rpc ListLabels")
    old = text[start : text.index(policy, start) + len(policy)]
    changed_files = render(changed(tmp_path, METRICS, old, old.replace(policy, new)))

    route = envoy_route(changed_files["envoy/envoy.yaml"], LABELS)
    assert (route["route"]["timeout"], route["route"]["cluster"]) == ("7s", "metrics-watch")
    rules = route["typed_per_filter_config"]["airis.permission"]["rbac"]["rules"]
    assert list(rules["policies"]) == ["metrics.inspect"]
    bucket = route["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]["descriptors"][0]["token_bucket"]
    assert bucket == {"max_tokens": 1000, "tokens_per_fill": 33, "fill_interval": "1s"}

    configs = json.loads(changed_files["deploy/grpc/service_config.json"])["methodConfig"]
    (config,) = [each for each in configs if each["name"][0]["method"] == "ListLabels"]
    assert (config["timeout"], config["retryPolicy"]["maxAttempts"]) == ("7s", 5)

    istio = list(yaml.safe_load_all(changed_files["deploy/istio/metrics.yaml"]))
    (routed,) = [r for r in istio[0]["spec"]["http"] if r.get("match", [{}])[0].get("uri") == {"exact": LABELS}]
    assert (routed["timeout"], routed["retries"]["attempts"]) == ("7s", 4)
    assert routed["route"][0]["destination"]["subset"] == "watch"
    (rule,) = [r for r in istio[3]["spec"]["rules"] if LABELS in r["to"][0]["operation"]["paths"]]
    assert rule["when"][0]["values"] == ["metrics.inspect"]

    linkerd = yaml.safe_load_all(changed_files["deploy/linkerd/metrics.yaml"])
    (annotated,) = [each for each in linkerd if each["metadata"]["name"] == "metrics-list-labels"]
    assert annotated["metadata"]["annotations"]["timeout.linkerd.io/request"] == "7000ms"
    assert annotated["metadata"]["annotations"]["retry.linkerd.io/limit"] == "4"

    (row,) = [line for line in changed_files["docs/policies.md"].splitlines() if line.startswith("| `ListLabels` |")]
    assert all(part in row for part in ("| 7s |", "5 attempts", "`metrics.inspect`", "`watch`", "33/s"))

    assert {path for path in generated if generated[path] == changed_files[path]} == {
        path for path in generated if re.search("istio|linkerd|asyncapi", path) and "metrics" not in path
    }


def envoy_route(text: str, path: str) -> dict[str, Any]:
    listener = yaml.load(text, Loader=yaml.CSafeLoader)["static_resources"]["listeners"][0]
    host = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]
    (found,) = [route for route in host["routes"] if route["match"].get("path") == path]
    return dict(found)
