"""A run of the whole matrix: where its data lies, and what it says when not everything can run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import conftest

sys.path.insert(0, str(Path(__file__).parents[2]))

run = importlib.import_module("tests.faults.__main__")


class Started:
    """What a run has started in place of programs."""

    def __init__(self, fetch_says: str = "", tests_end_with: int = 0) -> None:
        self.commands: list[list[str]] = []
        self.tests: list[str] = []
        self._fetch_says = fetch_says
        self._tests_end_with = tests_end_with

    def fetch(self, command: list[str], **_: object) -> SimpleNamespace:
        self.commands.append(command)
        return SimpleNamespace(returncode=int(bool(self._fetch_says)), stderr=self._fetch_says)

    def test(self, arguments: list[str]) -> int:
        self.tests = arguments
        return self._tests_end_with

    def main(self, monkeypatch: pytest.MonkeyPatch) -> int:
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "run", self.fetch)
            patched.setattr(pytest, "main", self.test)
            return int(run.main())


def test_only_the_servers_of_the_faults_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started()
    assert started.main(monkeypatch) == 0
    assert [sorted(command[4:]) for command in started.commands] == [
        ["clickhouse", "consul", "elasticsearch", "kafka", "postgres", "redis"]
    ]


def test_what_is_skipped_is_said_with_its_reason_and_folders_of_passed_tests_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = Started()
    started.main(monkeypatch)
    assert "-rs" in started.tests
    assert "tmp_path_retention_policy=failed" in started.tests


def test_without_a_server_the_others_run_and_the_end_says_what_did_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = Started(fetch_says="deploy.servers: elasticsearch: A JDK 21 or newer is needed")
    assert started.main(monkeypatch) == 1
    left_out = [each for each in started.tests if each.startswith("--ignore")]
    assert [Path(each.partition("=")[2]).name for each in left_out] == ["test_faults.py"]
    last = capsys.readouterr().err.strip().splitlines()[-2:]
    assert last[0].startswith("NOT RUN: ")
    assert last[1] == "deploy.servers: elasticsearch: A JDK 21 or newer is needed"


def test_a_failed_test_is_told_though_a_server_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Started(fetch_says="no network", tests_end_with=2).main(monkeypatch) == 2


@pytest.mark.usefixtures("temporary_files_in_memory")
def test_data_lies_on_a_disk_though_temporary_files_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", "")
    monkeypatch.delenv("PYTEST_DEBUG_TEMPROOT")

    conftest.pytest_configure()

    assert os.environ["PYTEST_DEBUG_TEMPROOT"] == str(tmp_path / "results" / "work")
