"""The peers: what their recipes say is what is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.peers.catalogue import PEERS, recipes
from bench.target import SIGNALS, TargetError
from deploy.servers.catalogue import SERVERS
from deploy.servers.recipe import SOURCES, GoProgram


def test_names_and_recipes_are_each_there_once() -> None:
    names = [peer.name for peer in PEERS.values()]

    assert len(set(names)) == len(names)
    # Jaeger is one program for two peers.
    assert len(recipes(list(PEERS))) == len(PEERS) - 1


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_takes_signals_that_there_are(name: str) -> None:
    assert PEERS[name].signals
    assert PEERS[name].signals <= set(SIGNALS)


@pytest.mark.parametrize("recipe", [recipe for recipe in recipes(list(PEERS)) if isinstance(recipe, GoProgram)])
def test_the_version_of_a_recipe_is_that_of_its_module(recipe: GoProgram) -> None:
    module = (SOURCES / recipe.name / "go.mod").read_text()

    assert re.search(rf"\sv{re.escape(recipe.version)}(-\S+)?$", module, re.M)
    assert (SOURCES / recipe.name / "go.sum").stat().st_size


def test_ci_builds_no_peer() -> None:
    ours = {kind.recipe.name for kind in SERVERS.values()}

    assert {recipe.name for recipe in recipes(list(PEERS))} - ours == {
        "victoriametrics",
        "prometheus",
        "victorialogs",
        "collector",
    }


def test_a_peer_that_is_not_in_the_cache_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_SERVERS_CACHE", str(tmp_path / "cache"))

    with pytest.raises(TargetError, match="make bench-peers"):
        PEERS["prometheus"]().start(tmp_path / "data")


def test_a_peer_that_was_never_started_has_no_processes_and_can_be_stopped() -> None:
    peer = PEERS["prometheus"]()

    peer.stop()

    with pytest.raises(TargetError, match="not started"):
        peer.endpoint("metrics")
