"""Calls are measured with authentication, and on cores of their own where there are enough."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from counting_target import CountingTarget

from bench import __main__ as command
from bench import airis_target, goals
from bench.airis_target import AirisTarget
from bench.call_cores import divided, kept_to
from bench.ingest import IngestRun, Plan
from bench.load import LoadGenerator, Phase
from bench.payloads import base_before
from bench.results import OURS, WITH_FRONTENDS, Results
from bench.runner import Options
from bench.target import Endpoint, Target
from services.shared.auth.config import AuthConfig, open_authenticator
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.permissions import contract_permissions


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of platforms that are started; each says that it is ready, and does nothing."""
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def start(arguments: list[str], **named: Any) -> subprocess.Popen[str]:
        commands.append(arguments)
        # What it reads does not end: it runs until it is stopped.
        named["stdin"] = subprocess.PIPE
        return popen([sys.executable, "-c", "print('AIRIS is ready', flush=True); input()"], **named)

    monkeypatch.setattr(airis_target.subprocess, "Popen", start)
    return commands


class _Guarded(grpc.GenericRpcHandler):
    """Answers whatever is called with a token."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        token = dict(call.invocation_metadata).get("authorization", "")

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            if not token:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
            self.tokens.append(token)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


def test_a_platform_with_authentication_is_sent_and_asked_with_a_token_that_it_takes(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFolder(tmp_path, key_bits=2048)
    keys.init()
    guarded = _Guarded()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((guarded,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    target = AirisTarget(authenticated=True)
    monkeypatch.setattr(target, "address", lambda _: f"127.0.0.1:{port}")
    target.start(tmp_path)
    shown = target.endpoint("metrics").headers["authorization"]
    assert [target.stored(signal) for signal in ("metrics", "logs", "traces")] == [0, 0, 0]
    target.stop()
    server.stop(None).wait()
    assert set(guarded.tokens) == {shown}
    authenticator = open_authenticator(AuthConfig(enabled=True, jwks_file=keys.jwks_file), contract_permissions())
    caller = authenticator.authenticate(shown.removeprefix("Bearer "), None)
    assert caller.tenant == "default"
    assert {"metrics.write", "metrics.read"} <= set(caller.permissions)


@pytest.mark.parametrize(("part", "wanted"), [("calls", True), ("metrics", False)])
def test_calls_alone_are_measured_with_authentication(
    part: str, wanted: bool, started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KeyFolder(tmp_path, key_bits=2048).init()
    found: list[Target] = []
    monkeypatch.setattr(command, "run_ingestion", lambda targets, *_: found.extend(targets) or [])
    monkeypatch.setattr(command, "cores_of_calls", lambda: divided(range(2), 2))
    given, results = command._parser().parse_args([]), Results({}, {})
    command.PARTS[part](results, given, Options(0))
    assert [target.name for target in found] == ["AIRIS", "AIRIS without Envoy", "bare grpc.aio"]
    for target in found[:2]:
        target.start(tmp_path)
        target.stop()
    assert [("--auth" in arguments) for arguments in started] == [wanted, wanted]
    # Who has which cores is said beside the figures.
    assert ("calls" in results.environment) is wanted


@pytest.mark.parametrize(("cores", "asked", "frontends"), [(3, "airis", 2), (2, "airis,airis-frontends", 1)])
def test_calls_are_measured_with_frontends_too_where_there_are_cores_for_them(
    cores: int, asked: str, frontends: int, started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    KeyFolder(tmp_path, key_bits=2048).init()
    found: list[Target] = []
    monkeypatch.setattr(command, "run_ingestion", lambda targets, *_: found.extend(targets) or [])
    monkeypatch.setattr(command, "cores_of_calls", lambda: divided(range(cores), cores))
    given = command._parser().parse_args(["--targets", asked])
    command.PARTS["calls"](Results({}, {}), given, Options(0))
    assert [target.name for target in found] == ["AIRIS", WITH_FRONTENDS]
    found[1].start(tmp_path)
    found[1].stop()
    assert started[0][-4:-2] == ["--frontends", str(frontends)]


def test_calls_are_judged_by_whichever_way_takes_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results({}, {})
    rows = {OURS: 100.0, WITH_FRONTENDS: 300.0}

    def row(_: str, target: str) -> Any:
        if target not in rows:
            return None
        spread = SimpleNamespace(median=rows[target])
        return SimpleNamespace(per_second=spread, peak_p95_ms=spread, half_p50_ms=spread, per_cpu_second=spread)

    monkeypatch.setattr(results, "row", row)
    assert [each.figure for each in goals._of_calls(results, OURS) if each.unit == "/s"] == [300.0]
    del rows[OURS]
    assert [each.figure for each in goals._of_calls(results, OURS) if each.unit == "/s"] == [300.0]


@pytest.mark.parametrize(
    ("cores", "allowed", "server", "generator", "generators"),
    [
        (2, 2, (), (), 2),
        (3, 3, (), (), 2),
        (4, 4, (), (), 3),
        (5, 5, (0, 1, 2), (3, 4), 3),
        (8, 8, (0, 1, 2), (3, 4, 5, 6, 7), 5),
        (32, 32, (0, 1, 2), tuple(range(3, 32)), 8),
        # A container's quota.
        (32, 2.5, (), (), 2),
        (32, 6.5, (0, 1, 2), (3, 4, 5), 3),
    ],
)
def test_the_server_has_three_cores_where_the_generator_has_others(
    cores: int, allowed: float, server: tuple[int, ...], generator: tuple[int, ...], generators: int
) -> None:
    division = divided(range(cores), allowed)
    assert (division.server, division.generator, division.generators) == (server, generator, generators)
    assert division.frontends == (1 if allowed <= 2.5 else 2)


def test_what_is_started_keeps_to_its_cores_and_whoever_starts_it_gets_its_own_back() -> None:
    own = os.sched_getaffinity(0)
    core = {max(own)}
    with kept_to(core):
        asked = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
        shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(core)
    assert os.sched_getaffinity(0) == own
    with kept_to(()):
        assert os.sched_getaffinity(0) == own


@pytest.mark.timeout(120)
def test_a_run_starts_its_target_on_the_cores_of_its_plan(tmp_path: Path) -> None:
    class _Looking(CountingTarget):
        def start(self, directory: Path) -> None:
            self.cores = os.sched_getaffinity(0)
            super().start(directory)

    own, target = os.sched_getaffinity(0), _Looking("durable")
    plan = Plan("traces", 5.0, 0.0, 0.0, merge_seconds=0.0, requests=10, server_cores=(min(own),))
    with LoadGenerator("traces", base_before(time.time_ns()), processes=1, prepared_bytes=2**20) as load:
        run = IngestRun(target, plan, load, 0, tmp_path).measure()
    assert not run.faults
    assert target.cores == {min(own)}
    assert os.sched_getaffinity(0) == own


@pytest.mark.timeout(120)
def test_a_target_that_another_thread_started_has_the_cores_of_the_plan_with_all_its_threads(tmp_path: Path) -> None:
    found: list[set[int]] = []

    class _Elsewhere(CountingTarget):
        def start(self, directory: Path) -> None:
            starter.submit(super().start, directory).result()

        def endpoint(self, signal: str) -> Endpoint:
            tasks = Path(f"/proc/{self.pids()[0]}/task").iterdir()
            found.extend(os.sched_getaffinity(int(task.name)) for task in tasks)
            return super().endpoint(signal)

    own = os.sched_getaffinity(0)
    plan = Plan("traces", 5.0, 0.0, 0.0, merge_seconds=0.0, requests=10, server_cores=(min(own),))
    with (
        ThreadPoolExecutor(1) as starter,
        LoadGenerator("traces", base_before(time.time_ns()), processes=1, prepared_bytes=2**20) as load,
    ):
        starter.submit(os.getpid).result()
        run = IngestRun(_Elsewhere("durable"), plan, load, 0, tmp_path).measure()
    assert not run.faults
    assert found
    assert all(cores == {min(own)} for cores in found)


@pytest.mark.timeout(120)
def test_two_generators_on_one_core_are_busy_when_that_core_is(tmp_path: Path) -> None:
    target = CountingTarget("memory")
    target.start(tmp_path)
    base = base_before(time.time_ns())
    with kept_to({max(os.sched_getaffinity(0))}), LoadGenerator("traces", base, prepared_bytes=2**20) as load:
        result = load.run(Phase(target.endpoint("traces"), 0, 2, 5.0, requests=10))
    target.stop()
    assert result.generator_busy == pytest.approx(result.generator_cpu_seconds / result.seconds)
