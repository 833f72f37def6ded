"""What a kill -9 costs is what was acknowledged and is not there after a restart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from counting_target import CountingTarget

from bench.load import LoadGenerator
from bench.peers.kill import Killed, kill_under_load, measure_kills
from bench.target import Endpoint

BASE_NS = 1_790_000_000_000_000_000


def kill(target: CountingTarget, work: Path) -> Killed:
    with LoadGenerator("traces", BASE_NS, processes=1, prepared_bytes=2**20) as load:
        return kill_under_load(target, "traces", load, 1.0, work)


def test_a_server_that_keeps_what_it_acknowledged_loses_nothing(tmp_path: Path) -> None:
    target = CountingTarget("durable")

    killed = kill(target, tmp_path)

    assert killed.acknowledged > 0
    assert killed.lost == 0
    assert killed.acknowledged <= killed.stored <= killed.acknowledged + killed.in_flight
    assert target.starts == 2
    assert not list(tmp_path.iterdir())


def test_a_server_that_has_it_in_memory_loses_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.kill._STEADY_SECONDS", 0.1)

    killed = kill(CountingTarget("memory"), tmp_path)

    assert killed.acknowledged > 0
    assert (killed.stored, killed.lost) == (0, killed.acknowledged)


def test_a_kill_before_which_nothing_was_acknowledged_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))

        class Deaf(CountingTarget):
            def endpoint(self, signal: str) -> Endpoint:
                return Endpoint("http", f"127.0.0.1:{nobody.getsockname()[1]}", "/")

        monkeypatch.setattr("bench.peers.kill._COMPLETE_SECONDS", 0.1)
        killed = kill(Deaf("durable"), tmp_path)

    assert (killed.acknowledged, killed.fault) == (0, "nothing was acknowledged")


def test_a_target_that_does_not_run_is_told_and_the_next_one_is_measured(tmp_path: Path) -> None:
    class Broken(CountingTarget):
        name = "broken"

        def start(self, directory: Path) -> None:
            raise OSError("no room")

    told: list[Killed] = []
    targets = [Broken("durable"), CountingTarget("durable")]

    found = measure_kills(targets, ["metrics", "traces"], BASE_NS, 0.5, told.append, tmp_path, prepared_bytes=2**20)

    assert [(each.target, each.signal, each.fault) for each in found] == [
        ("broken", "traces", "no room"),
        ("counter", "traces", ""),
    ]
    assert told == found
