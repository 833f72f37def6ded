"""`airis dev servers` as a new user runs it, with those servers that come with the locked packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.servers.dev import DevServers, Running
from deploy.servers.errors import ServerError
from deploy.servers.server import Server

ROOT = Path(__file__).parent.parent.parent


class NewUser:
    """A user with a home and a temporary folder in which there is nothing."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder)}
        self.environment.pop("AIRIS_SERVERS_CACHE", None)
        self.state = folder / f"airis-servers-{os.getuid()}" / "state.json"

    def airis(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs `airis dev servers` with these arguments."""
        ended = subprocess.run(
            [Path(sys.executable).with_name("airis"), "dev", "servers", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == status, ended.stderr
        return ended

    def health(self, name: str) -> str:
        """What `status` says of a server."""
        shown = subprocess.run(
            [Path(sys.executable).with_name("airis"), "dev", "servers", "status"],
            env=self.environment,
            capture_output=True,
            text=True,
        ).stdout
        return next(line.split()[2] for line in shown.splitlines() if line.split()[:1] == [name])


@pytest.fixture
def user(tmp_path: Path) -> Iterator[NewUser]:
    user = NewUser(tmp_path)
    yield user
    user.airis("down")


def test_up_status_and_down(user: NewUser) -> None:
    assert user.health("redis") == "stopped"
    exported = user.airis("up", "redis", "postgres").stdout.splitlines()
    assert [line.partition("=")[0] for line in exported] == ["export AIRIS_POSTGRES__DSN", "export AIRIS_REDIS__URL"]
    assert (user.health("redis"), user.health("postgres")) == ("healthy", "healthy")
    assert user.airis("up", "redis").stdout.splitlines() == exported[1:]
    pids = [record["pid"] for record in json.loads(user.state.read_text()).values()]
    assert user.airis("down").stderr.splitlines() == ["redis: stopped", "postgres: stopped"]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert user.health("redis") == "stopped"


def test_one_that_ended_is_seen_and_comes_back_where_it_was(user: NewUser) -> None:
    first = user.airis("up", "redis").stdout
    os.kill(json.loads(user.state.read_text())["redis"]["pid"], signal.SIGKILL)
    _until(lambda: user.health("redis") == "ended")
    user.airis("status", status=1)
    assert user.airis("up", "redis").stdout == first
    assert user.health("redis") == "healthy"


def test_a_process_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        servers = DevServers(tmp_path)
        record = Running(stranger.pid, psutil.Process(stranger.pid).create_time() - 60, {"redis": 1}, signal.SIGTERM)
        (tmp_path / "state.json").write_text(json.dumps({"redis": vars(record)}))
        assert next(each.health for each in servers.status() if each.name == "redis") == "ended"
        lines: list[str] = []
        servers.down([], lines.append)
        assert lines == ["redis: did not run"]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    "written", [b"{", b"[]", b"\xff", b'{"redis": {"pid": 1}}', b'{"redis": null}', b'{"redis": {"ports": [1]}}']
)
def test_a_damaged_state_is_told_with_what_to_do(tmp_path: Path, written: bytes) -> None:
    servers = DevServers(tmp_path)
    (tmp_path / "state.json").write_bytes(written)
    for command in (servers.status, lambda: servers.up([], print), lambda: servers.down([], print)):
        with pytest.raises(
            ServerError, match=r"state\.json, which tells what was started, is damaged\. End the servers"
        ):
            command()


def test_traces_are_in_clickhouse_unless_jaeger_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(self: Server) -> None:
        started.append(self.name)

    monkeypatch.setattr(Server, "start", start)
    # Any process that is there.
    monkeypatch.setattr(Server, "pid", os.getpid())
    settings = DevServers(tmp_path).up([], started.append)
    assert {"consul", "kafka", "clickhouse", "elasticsearch", "postgres", "redis"} <= set(started)
    assert not {"jaeger", "zookeeper"} & set(started)
    assert "AIRIS_TRACES__STORE_DSN" in settings
    assert not [name for name in settings if "JAEGER" in name or name == "AIRIS_TRACES__STORE"]
    assert DevServers(tmp_path).up(["jaeger"], started.append)["AIRIS_TRACES__STORE"] == "jaeger"


def test_one_that_is_not_in_the_cache_is_told_with_what_to_do(user: NewUser) -> None:
    assert "kafka 4.3.1 is not in" in (error := user.airis("up", "kafka", status=1).stderr)
    assert "run `make servers`" in error


def test_without_the_source_code_it_says_where_it_works() -> None:
    script = "import sys; sys.modules['deploy'] = None; from airis.client.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script, "dev", "servers", "status"], capture_output=True, text=True, cwd="/"
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("airis: The servers come with the source code: run this in a checkout of AIRIS")


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_a_server_dies_with_the_program_that_started_it(name: str, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from deploy.servers import make_server\n"
        f"server = make_server({name!r}, Path(sys.argv[1])); server.start(); print(server.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        server = psutil.Process(int(program.stdout.readline()))
        program.kill()
    assert psutil.wait_procs([server], timeout=20)[1] == []


def _until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends
