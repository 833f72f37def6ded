"""A copy of the contracts in which one policy is changed: every layer changes with it, in that and in nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conformance_contract import RPCS
from conformance_copy import ContractsCopy, differences
from contracts_copy import ROOT

pytestmark = pytest.mark.timeout(300)

(BEFORE,) = [rpc for rpc in RPCS if str(rpc) == "metrics.ListLabels"]
WAS, HELD = BEFORE.policy, BEFORE.bulkhead
SIZES = HELD.max_concurrent + HELD.max_waiting, 7 + HELD.max_waiting
METRICS = "airis/metrics/v1/metrics.proto"
PATH = "/airis.metrics.v1.MetricsService/ListLabels"
GENERATED = ("gen", "envoy", "deploy", "docs")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> ContractsCopy:
    """ListLabels has another deadline, permission, number of attempts and rate; its pool has another size."""
    made = ContractsCopy(tmp_path_factory.mktemp("copy"))
    made.change(
        METRICS,
        "ListLabels",
        {
            f' deadline: "{WAS.deadline}"': ' deadline: "1s"',
            f'attempt_deadline: "{WAS.retry.attempt_deadline}"': 'attempt_deadline: "0.9s"',
            f"max_attempts: {WAS.retry.max_attempts}": "max_attempts: 5",
            f'permission: "{WAS.permission}"': 'permission: "metrics.inspect"',
            f"per_second: {WAS.rate_limit.per_second:g}": "per_second: 33",
            f"burst: {WAS.rate_limit.burst}": "burst: 44",
        },
    )
    made.replace(METRICS, r'(name: "query"\s+max_concurrent: )32', r"\g<1>7")
    result = made.make("generate")
    assert result.returncode == 0, result.stderr
    return made


def both(copy: ContractsCopy, path: str) -> Iterator[str]:
    for root in (ROOT, copy.root):
        yield (root / path).read_text(encoding="utf-8")


def yaml_differences(copy: ContractsCopy, path: str) -> dict[tuple[Any, ...], tuple[Any, Any]]:
    before, after = (list(yaml.load_all(text, Loader=yaml.CSafeLoader)) for text in both(copy, path))
    return {at: (old, new) for at, old, new in differences(before, after)}


def test_only_what_the_change_is_about_is_generated_anew(copy: ContractsCopy) -> None:
    files = {
        str(file.relative_to(copy.root))
        for folder in GENERATED
        for file in (copy.root / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    changed = {file for file in files if (ROOT / file).read_bytes() != (copy.root / file).read_bytes()}
    assert changed == {
        "gen/airis.binpb", "gen/airis/metrics/v1/metrics_pb2.py", "envoy/envoy.yaml", "envoy/distributed.yaml",
        "docs/policies.md", "docs/openapi.yaml", "deploy/grpc/service_config.json", "deploy/istio/metrics.yaml",
        "deploy/linkerd/metrics.yaml",
    }  # fmt: skip


def envoy_changes(copy: ContractsCopy, path: str) -> dict[Any, Any]:
    """What changed in Envoy's configuration, by route and by cluster."""
    (before, after) = (yaml.load(text, Loader=yaml.CSafeLoader) for text in both(copy, path))
    changes: dict[Any, Any] = {}
    for at, old, new in differences(before, after):
        if "routes" in at:
            listener, route = at[2], at[at.index("routes") + 1]
            connections = after["static_resources"]["listeners"][listener]["filter_chains"][0]["filters"][0]
            table = connections["typed_config"]["route_config"]["virtual_hosts"][0]["routes"]
            changes[(table[route]["match"]["path"], *at[at.index("routes") + 2 :])] = (old, new)
        else:
            assert at[:2] == ("static_resources", "clusters"), at
            changes[(after["static_resources"]["clusters"][at[2]]["name"], at[-1])] = (old, new)
    return changes


def test_envoy_of_the_distributed_profile_changes_in_the_same_routes(copy: ContractsCopy) -> None:
    routes = [
        {at: change for at, change in envoy_changes(copy, path).items() if at[0] == PATH}
        for path in ("envoy/envoy.yaml", "envoy/distributed.yaml")
    ]
    assert routes[0] == routes[1]


def test_envoy_changes_in_that_route_and_that_pool(copy: ContractsCopy) -> None:
    changes = envoy_changes(copy, "envoy/envoy.yaml")
    assert changes.pop((PATH, "route", "timeout")) == (WAS.deadline, "1s")
    # As many may be under way, wait for a connection, or be tried again.
    for limit in ("max_requests", "max_pending_requests", "min_retry_concurrency"):
        assert changes.pop(("metrics-query", limit)) == (
            HELD.max_concurrent + HELD.max_waiting,
            7 + HELD.max_waiting,
        )
    assert {at[0] for at in changes} == {PATH}
    of_filters = {at: change for at, change in changes.items() if at[1] == "typed_per_filter_config"}
    assert {at[2] for at in of_filters} == {"airis.permission", "envoy.filters.http.local_ratelimit"}
    assert {change[1] for at, change in of_filters.items() if at[-1] == "tokens_per_fill"} == {33}
    assert {change[1] for at, change in of_filters.items() if at[-1] == "max_tokens"} == {44}
    allowed = ("typed_per_filter_config", "airis.permission", "rbac", "rules", "policies", "metrics.inspect")
    assert "metrics.inspect" in json.dumps(changes[(PATH, *allowed)][1])
    assert changes[(PATH, *allowed[:-1], WAS.permission)][1] is None
    # The rest is how the refusals are worded.
    others = {at: change[1] for at, change in changes.items() if at not in of_filters}
    assert {at[1:4] for at in others} == {("metadata", "filter_metadata", "airis")}
    assert others[(PATH, "metadata", "filter_metadata", "airis", "permission")] == "metrics.inspect"


def test_the_grpc_service_config_changes_in_that_method(copy: ContractsCopy) -> None:
    before, after = map(json.loads, both(copy, "deploy/grpc/service_config.json"))
    changes = {at: (old, new) for at, old, new in differences(before, after)}
    ((name, number),) = {at[:2] for at in changes}
    assert (name, after[name][number]["name"]) == (
        "methodConfig", [{"service": "airis.metrics.v1.MetricsService", "method": "ListLabels"}],
    )  # fmt: skip
    assert {at[2:]: change for at, change in changes.items()} == {
        ("timeout",): (WAS.deadline, "1s"),
        ("retryPolicy", "maxAttempts"): (WAS.retry.max_attempts, 5),
    }


def test_istio_changes_in_that_route_that_pool_and_that_permission(copy: ContractsCopy) -> None:
    before, after = (
        {each["kind"]: each["spec"] for each in yaml.load_all(text, Loader=yaml.CSafeLoader)}
        for text in both(copy, "deploy/istio/metrics.yaml")
    )
    routes = dict(differences_by_path(before["VirtualService"]["http"], after["VirtualService"]["http"]))
    assert routes == {
        (PATH, "timeout"): (WAS.deadline, "1s"),
        (PATH, "retries", "attempts"): (WAS.retry.max_attempts - 1, 4),
        (PATH, "retries", "perTryTimeout"): (WAS.retry.attempt_deadline, "0.9s"),
    }
    subsets = [{each["name"]: each for each in spec["DestinationRule"]["subsets"]} for spec in (before, after)]
    assert {at[0]: change for at, *change in differences(*subsets)} == {"query": [*SIZES]}

    def allowed(spec: dict[str, Any]) -> dict[str, set[str]]:
        return {
            rule["when"][0]["values"][0]: set(rule["to"][0]["operation"]["paths"])
            for rule in spec["AuthorizationPolicy"]["rules"]
            if "when" in rule
        }

    assert allowed(after) == {
        **allowed(before), WAS.permission: allowed(before)[WAS.permission] - {PATH}, "metrics.inspect": {PATH},
    }  # fmt: skip
    assert before["RequestAuthentication"] == after["RequestAuthentication"]


def test_linkerd_changes_in_that_route(copy: ContractsCopy) -> None:
    before, after = (
        {each["metadata"]["name"]: each for each in yaml.load_all(text, Loader=yaml.CSafeLoader)}
        for text in both(copy, "deploy/linkerd/metrics.yaml")
    )
    where = ("metrics-list-labels", "metadata", "annotations")
    assert {at: (old, new) for at, old, new in differences(before, after)} == {
        (*where, "timeout.linkerd.io/request"): (f"{BEFORE.deadline or 0:.0f}000ms", "1000ms"),
        (*where, "retry.linkerd.io/limit"): (str(WAS.retry.max_attempts - 1), "4"),
        (*where, "retry.linkerd.io/timeout"): (f"{BEFORE.attempt_deadline or 0:.0f}000ms", "900ms"),
    }


def test_the_policy_table_changes_in_that_row_and_that_pool(copy: ContractsCopy) -> None:
    before, after = (text.splitlines() for text in both(copy, "docs/policies.md"))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    (row, new_row), (pool, new_pool) = changed
    rule, rate = WAS.retry, WAS.rate_limit
    for part, new_part in (
        (f"| {WAS.deadline} |", "| 1s |"),
        (f"{rule.max_attempts} attempts", "5 attempts"),
        (f"{rule.attempt_deadline} each", "0.9s each"),
        (f"`{WAS.permission}`", "`metrics.inspect`"),
        (f"{rate.per_second:g}/s, {rate.burst} at once", "33/s, 44 at once"),
    ):
        assert part in row
        row = row.replace(part, new_part)
    assert (row, pool.replace("| 32 |", "| 7 |")) == (new_row, new_pool)
    assert row.startswith("| `ListLabels` |")
    assert new_pool.startswith("| `query` | 7 |")


def test_openapi_changes_in_that_operation(copy: ContractsCopy) -> None:
    before, after = (yaml.load(text, Loader=yaml.CSafeLoader) for text in both(copy, "docs/openapi.yaml"))
    changes = {at: (old, new) for at, old, new in differences(before, after)}
    operations = {at[:3] for at in changes}
    assert {after[at[0]][at[1]][at[2]]["operationId"] for at in operations} == {"ListLabels"}
    said = {at[3]: change for at, change in changes.items()}
    assert said.pop("x-airis-permission") == (WAS.permission, "metrics.inspect")
    (_, description) = said.pop("description")
    for part in ("`metrics.inspect`", "Deadline: 1s", "33 calls a second", "44 at once"):
        assert part in description
    assert not said


def test_client_server_and_envoy_of_the_copy_obey_it(copy: ContractsCopy) -> None:
    # The same tests as of the contracts themselves, which read what they expect from the copy's descriptors.
    read = copy.run(
        "-c",
        "from conformance_contract import RPCS, ROOT\n"
        "(rpc,) = [rpc for rpc in RPCS if rpc.descriptor.name == 'ListLabels']\n"
        "print(ROOT, rpc.deadline, rpc.policy.permission, rpc.policy.retry.max_attempts, rpc.bulkhead.max_concurrent,"
        " rpc.policy.rate_limit.burst)",
    )
    assert read.stdout.split() == [str(copy.root), "1.0", "metrics.inspect", "5", "7", "44"], read.stderr
    suites = [f"tests/integration/test_conformance_{layer}.py" for layer in ("client", "server", "edge")]
    chosen = "ListLabels or one/labels or MetricsService.query or ends_calls"
    result = copy.run("-m", "pytest", "-p", "no:cacheprovider", *suites, "-k", chosen, CONFORMANCE_BRIEF_SECONDS="1")
    assert result.returncode == 0, result.stdout[-5000:]
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    # 4 of each client and 6 of each server, 4 through Envoy over gRPC and gRPC-Web and 1 over REST, its pool, its end.
    assert int(passed) >= 2 * 4 + 2 * 6 + 4 + 1 + 1 + 1


def differences_by_path(before: list[Any], after: list[Any]) -> Iterator[tuple[tuple[Any, ...], tuple[Any, Any]]]:
    for at, old, new in differences(before, after):
        yield (after[at[0]]["match"][0]["uri"]["exact"], *at[1:]), (old, new)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> tuple[ContractsCopy, str]:
    """An RPC was added without a policy; and what `make generate` says to it."""
    made = ContractsCopy(tmp_path_factory.mktemp("forgetful"))
    made.replace(
        METRICS,
        r"(service MetricsService \{\n)",
        r"\1  // Forgets its policy.\n  rpc Forget(ListLabelsRequest) returns (ListLabelsResponse);\n",
    )
    result = made.make("generate")
    assert result.returncode != 0
    return made, result.stderr


FORGOTTEN = "airis.metrics.v1.MetricsService.Forget has no airis.policy.v1.policy"


def test_an_rpc_without_a_policy_fails_make_generate_and_so_make_check(
    forgetful: tuple[ContractsCopy, str],
) -> None:
    copy, said = forgetful
    assert FORGOTTEN in said
    assert "generate" in (copy.root / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    # Nothing half-made is left of what is derived from policies.
    assert (copy.root / "envoy/envoy.yaml").read_bytes() == (ROOT / "envoy/envoy.yaml").read_bytes()


@pytest.mark.parametrize(
    "program",
    [
        "import grpc; from airis.metrics.v1.metrics_pb2_grpc import MetricsServiceStub as Stub;"
        "from resilience.grpc.client import wrap; wrap(Stub(grpc.insecure_channel('127.0.0.1:1')))",
        "import grpc; from airis.metrics.v1.metrics_pb2_grpc import MetricsServiceStub as Stub;"
        "from resilience.grpc.client import wrap; Stub(wrap(grpc.insecure_channel('127.0.0.1:1')))",
        "import runpy, sys; sys.argv = ['services', 'metrics']; runpy.run_module('services', run_name='__main__')",
    ],
    ids=["wrap(stub)", "wrap(channel)", "service"],
)
def test_an_rpc_without_a_policy_fails_clients_and_the_services_start(
    forgetful: tuple[ContractsCopy, str], tmp_path: Path, program: str
) -> None:
    result = forgetful[0].run("-c", program, AIRIS_DATA_DIR=str(tmp_path))
    assert result.returncode != 0
    assert FORGOTTEN in result.stderr + result.stdout
