"""docker-compose.yml against the configuration, the ports and .env.example: no Docker is needed to know it is wrong."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_file import EXAMPLE, FILE, ROOT, read_compose, read_example, variables_of

from services import healthcheck
from services.config import Configuration, check_access, load
from services.mesh.config import MeshConfig
from services.shared.bus.config import KafkaConfig
from services.supervisor import ports

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("airis-epm:")}
SIGNALS = ("metrics", "logs", "traces")
INSTANCES = [*SIGNALS, *(f"{signal}-worker" for signal in SIGNALS), "alerts"]
ONE_SHOT = {"auth-init", "envoy-config"}
# What Docker sets of ~/.docker/config.json.
PROXIES = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"}
# Tags with a whole version: what they are does not change from one day to the next.
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)*(-[a-z0-9.-]+)?")
# What may not go without writing beside its volumes, for the reason that stands at it.
WRITABLE_ROOT = {"kafka", "elasticsearch"}


def test_the_whole_system_is_there() -> None:
    servers = {"kafka", "clickhouse", "elasticsearch", "postgres", "redis", "consul", "jaeger", "envoy"}
    assert SERVICES.keys() == servers | set(INSTANCES) | ONE_SHOT | {"auth", "mesh"}
    assert SERVICES["jaeger"]["profiles"] == ["jaeger"]
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["jaeger"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_is_pinned_to_a_version(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"]), service["image"]
    if "build" in service:
        assert service["build"]["context"] == "."
        assert re.search(rf"^FROM \S+ AS {service['build']['target']}$", dockerfile(), re.M)


def test_each_image_is_built_by_one_service_and_those_that_use_it_start_after_that_one() -> None:
    built = [(service["image"], name) for name, service in SERVICES.items() if "build" in service]
    builders = dict(built)
    # Builds run side by side: two of one tag get in each other's way.
    assert len(builders) == len(built)
    assert builders["airis-epm:0.1.0"] == "auth-init"
    for name, service in SERVICES.items():
        builder = builders.get(service["image"], name)
        if builder != name:
            assert builder in needed_by(name), f"{name} may start before its image is built"
            # No registry has it.
            assert service["pull_policy"] == "never"
        else:
            assert "pull_policy" not in service


def needed_by(name: str) -> set[str]:
    """The services that a service waits for, directly or not."""
    direct = set(SERVICES[name].get("depends_on", {}))
    return direct.union(*(needed_by(each) for each in direct))


def test_no_container_wants_more_cores_than_a_machine_of_two_has() -> None:
    # A daemon refuses to start a container that does.
    for name, service in SERVICES.items():
        assert float(service["deploy"]["resources"]["limits"]["cpus"]) <= 2, name


def test_groups_are_remembered_for_longer_than_batches_are_kept() -> None:
    kept_hours = float(SERVICES["kafka"]["environment"]["KAFKA_OFFSETS_RETENTION_MINUTES"]) / 60
    dead_letters = KafkaConfig().dead_letter_retention_hours
    assert kept_hours >= max(365 * 24, dead_letters, float(read_example()["AIRIS_KAFKA_RETENTION_HOURS"]))


@pytest.mark.parametrize("name", [*INSTANCES, "mesh", "clickhouse", "elasticsearch"])
def test_no_proxy_of_the_host_comes_between_containers(name: str) -> None:
    assert {SERVICES[name]["environment"].get(variable) for variable in PROXIES} == {""}


def test_jaeger_syncs_what_it_acknowledges() -> None:
    configuration = yaml.safe_load((ROOT / "deploy/containers/jaeger.yaml").read_text())
    badger = configuration["extensions"]["jaeger_storage"]["backends"]["traces"]["badger"]
    # Its own default is not to.
    assert badger["consistency"] is True
    assert "processors" not in configuration["service"]["pipelines"]["traces"]


def test_each_stage_of_the_dockerfile_is_pinned_and_has_the_version_of_its_image() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile(), re.M)
    assert len(stages) == len(re.findall("^FROM", dockerfile(), re.M))
    for image, _ in stages:
        assert PINNED.fullmatch(image), image
    tags = {stage: image.rpartition(":")[2] for image, stage in stages}
    assert all(SERVICES[name]["image"].endswith(f":{tags[name]}") for name in ("elasticsearch", "jaeger"))
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    assert {service["image"] for service in OURS.values()} == {f"airis-epm:{version[1]}"}


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SERVICES)
def test_whatever_runs_is_bounded_and_has_few_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["user"].partition(":")[0] not in ("0", "root")
    assert service.get("read_only", False) is (name not in WRITABLE_ROOT)
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", SERVICES)
def test_whatever_runs_on_tells_whether_it_is_healthy(name: str) -> None:
    # One ends by itself; the image of Jaeger has no program that could ask.
    if name in ONE_SHOT | {"jaeger"}:
        assert "healthcheck" not in SERVICES[name]
        return
    check = SERVICES[name]["healthcheck"]
    assert check.keys() == {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
    assert check["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", SERVICES)
def test_a_start_waits_until_what_it_needs_is_healthy(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ONE_SHOT
        assert how == {"condition": "service_completed_successfully" if ends else "service_healthy"}
        assert ends or "healthcheck" in SERVICES[needed]


def test_each_service_of_ours_waits_for_the_servers_that_it_is_told_of() -> None:
    for name in INSTANCES:
        text = str(SERVICES[name]["environment"])
        told = {server for server in SERVICES if re.search(rf"\b{server}:\d", text)} - {"envoy", "jaeger"}
        assert told <= SERVICES[name]["depends_on"].keys(), name
        assert "auth" in SERVICES[name]["depends_on"]


def test_nothing_waits_in_a_circle() -> None:
    done: set[str] = set()
    left = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    while ready := {name for name, needed in left.items() if needed <= done}:
        done |= ready
        left = {name: needed for name, needed in left.items() if name not in ready}
    assert not left


def test_only_envoy_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    inside = [port for name, port in ports.ENVOY.items() if name != "Envoy admin"]
    assert published == {"envoy": [f"127.0.0.1:{port}:{port}" for port in inside]}
    assert not [name for name, service in SERVICES.items() if service.get("network_mode") == "host"]


def test_only_envoy_and_alerts_are_in_a_network_with_a_way_out() -> None:
    closed = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert closed == {"data", "mesh"}
    outside = {name for name, service in SERVICES.items() if set(service.get("networks", ())) - closed}
    assert outside == {"envoy", "alerts"}
    # Envoy, which everybody reaches, reaches no store.
    assert "data" not in SERVICES["envoy"]["networks"]
    for name in SERVICES:
        assert "networks" in SERVICES[name] or SERVICES[name]["network_mode"] == "none"


@pytest.mark.parametrize("name", [*INSTANCES, "mesh"])
def test_each_variable_of_a_service_is_a_setting_and_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    for variable in environment.keys() - {"AIRIS_SECRETS_DIR"} - PROXIES:
        assert_setting(variable)
    for key, value in environment.items():
        if key != "AIRIS_SECRETS_DIR":
            monkeypatch.setenv(key, value)
    configuration = load()
    check_access(configuration)
    assert configuration.auth.enabled
    assert configuration.profile == "distributed"
    assert (configuration.bus.kind, configuration.discovery.kind) == ("kafka", "consul")
    if name != "mesh":
        assert configuration.role == ("work" if "worker" in name else "serve" if name in SIGNALS else "all")


def assert_setting(variable: str) -> None:
    node: Any = Configuration
    for part in variable.removeprefix("AIRIS_").lower().split("__"):
        assert part in node.model_fields, f"{variable}: there is no setting {part}"
        node = node.model_fields[part].annotation


@pytest.mark.parametrize("name", INSTANCES)
def test_a_service_is_reached_at_the_names_and_ports_of_the_others(name: str) -> None:
    inside = {
        "kafka": {9092}, "clickhouse": {8123}, "elasticsearch": {9200}, "consul": {8500}, "envoy": {4317},
        "jaeger": {4317, 16685}, "postgres": {5432}, "redis": {6379},
    }  # fmt: skip
    for variable, value in SERVICES[name]["environment"].items():
        for host, port in re.findall(r"(?:^|[/@,])([a-z-]+):(\d+)", str(value)):
            assert int(port) in inside[host], f"{name}: {variable}={value}"
            assert set(SERVICES[host]["networks"]) & set(SERVICES[name]["networks"]), f"{name} does not reach {host}"


@pytest.mark.parametrize("name", [*INSTANCES, "mesh"])
def test_commands_and_health_checks_are_those_of_the_program(name: str) -> None:
    service = SERVICES[name]
    part = name.removesuffix("-worker")
    expected = ["airis", "mesh"] if name == "mesh" else ["python", "-m", "services", part]
    assert service["command"] == expected
    assert service["healthcheck"]["test"] == ["CMD", "python", "-m", "services.healthcheck", part]
    assert part in healthcheck.SERVICES


def test_the_mesh_is_where_envoy_is_told_and_shows_the_same_token() -> None:
    made = SERVICES["envoy-config"]
    assert f"--mesh=mesh:{MeshConfig().grpc_port}" in made["command"]
    token = f"--token-file={SERVICES['mesh']['environment']['AIRIS_MESH__TOKEN_FILE']}"
    assert token in made["command"]
    assert made["secrets"] == SERVICES["mesh"]["secrets"] == ["mesh_token"]
    descriptors = next(volume for volume in SERVICES["envoy"]["volumes"] if "airis.binpb" in volume).split(":")
    assert f"--descriptors={descriptors[1]}" in made["command"]
    assert (ROOT / descriptors[0]).is_file()


def test_example_and_compose_file_have_the_same_variables_and_defaults() -> None:
    used = variables_of(FILE.read_text(encoding="utf-8"))
    assert {name: default for name, default in used.items() if default is not None} == read_example()
    # What has no default is asked for by name: there is none now.
    assert None not in used.values()


def test_each_variable_of_the_example_is_explained() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    explained = False
    for line in lines:
        if line.startswith("#") and "----" not in line:
            explained = True
        elif not line:
            explained = False
        else:
            assert explained or line.startswith("#"), line


def test_the_example_changes_nothing() -> None:
    assert read_compose(read_example()) == COMPOSE


def test_no_secret_is_in_the_file() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", variable):
                assert str(value).startswith("/run/"), f"{name}: {variable}"
            assert not re.search(r"://[^/@\s]*:[^/@\s]+@", str(value)), f"{name}: {variable}"
    assert all(re.fullmatch(r"\./secrets/\w+", secret["file"]) for secret in COMPOSE["secrets"].values())
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/secrets/", "/.env"} <= set(ignored)


def test_each_secret_and_volume_is_declared_and_used() -> None:
    used = {
        each if isinstance(each, str) else each["source"]
        for service in SERVICES.values()
        for each in service.get("secrets", ())
    }
    assert used == COMPOSE["secrets"].keys()
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    assert {volume for volume in mounted if not volume.startswith(".")} == COMPOSE["volumes"].keys()
    assert all((ROOT / path).is_file() for path in mounted if path.startswith("."))
    assert all(volume.endswith(":ro") for service in SERVICES.values() for volume in service.get("volumes", ())
               if volume.startswith("."))  # fmt: skip


def test_private_keys_are_in_no_container_that_takes_calls() -> None:
    assert {name for name, each in SERVICES.items() if any("keys:" in v for v in each.get("volumes", ()))} == {
        "auth-init", "auth",
    }  # fmt: skip
    assert {SERVICES[name]["network_mode"] for name in ("auth-init", "auth")} == {"none"}


def test_the_secrets_that_are_made_are_those_that_are_used_and_stay(tmp_path: Path) -> None:
    script = ROOT / "deploy/containers/secrets.sh"
    folder = tmp_path / "secrets"

    def make() -> dict[str, str]:
        subprocess.run(["sh", script, folder], check=True, capture_output=True)
        return {file.name: file.read_text() for file in folder.iterdir()}

    made = make()
    assert made.keys() == COMPOSE["secrets"].keys()
    assert make() == made
    assert folder.stat().st_mode & 0o777 == 0o700
    passwords = [text for name, text in made.items() if name.endswith(("_password", "_token"))]
    assert all(re.fullmatch("[0-9a-f]{48}", password) for password in passwords)
    assert len(set(passwords)) == len(passwords)
    assert made["postgres_dsn"] == f"postgresql://airis:{made['postgres_password']}@postgres:5432/airis"
    assert made["redis_url"] == f"redis://:{made['redis_password']}@redis:6379/0"
    assert made["redis_auth"].split() == ["requirepass", made["redis_password"]]
    assert f"<password>{made['clickhouse_password']}</password>" in made["clickhouse_users"]


def test_workers_may_be_as_many_as_there_are_partitions() -> None:
    changed = read_compose({**read_example(), "AIRIS_METRICS_WORKERS": "4", "AIRIS_PUBLISH_ADDRESS": "0.0.0.0"})
    assert changed["services"]["metrics-worker"]["deploy"]["replicas"] == "4"
    assert changed["services"]["envoy"]["ports"][0].startswith("0.0.0.0:")
    assert yaml.safe_load(FILE.read_text())["services"]["logs-worker"].get("container_name") is None
