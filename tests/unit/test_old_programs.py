"""Faults that need earlier programs are left out where there are none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from faults import old_programs

MIGRATION = Path("services/logs/store/sql/0002_more.sql")


def git(*arguments: str, folder: Path) -> None:
    name = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One that got a migration with its second commit."""
    folder = tmp_path / "whole"
    (folder / MIGRATION).parent.mkdir(parents=True)
    git("init", folder=folder)
    git("commit", "--allow-empty", "--message=first", folder=folder)
    (folder / MIGRATION).write_text("SELECT 1;")
    git("add", ".", folder=folder)
    git("commit", "--message=second", folder=folder)
    return folder


def test_a_whole_clone_has_the_commit_before_a_migration(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_programs, "_ROOT", repository)
    assert old_programs.has_history()
    assert len(old_programs.before_migrations()) == 1


def test_a_shallow_clone_has_no_earlier_programs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("clone", "--depth=1", repository.as_uri(), "shallow", folder=tmp_path)
    monkeypatch.setattr(old_programs, "_ROOT", tmp_path / "shallow")
    assert not old_programs.has_history()


def test_an_archive_has_no_earlier_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_programs, "_ROOT", tmp_path)
    assert not old_programs.has_history()


def test_without_git_there_are_no_earlier_programs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_programs, "_ROOT", repository)
    monkeypatch.setenv("PATH", "")
    assert not old_programs.has_history()
