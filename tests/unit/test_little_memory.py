"""Faults that need control groups are left out where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import little_memory


def test_memory_cannot_be_limited_where_the_kernel_refuses_what_its_files_permit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(little_memory, "_GROUPS", tmp_path)
    # Whoever may write everything cannot write this, as in a container it is with the file of that name.
    (tmp_path / "cgroup.subtree_control").mkdir()

    assert not little_memory.can_limit_memory()
    assert [each.name for each in tmp_path.iterdir()] == ["cgroup.subtree_control"]


def test_memory_cannot_be_limited_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(little_memory, "_GROUPS", tmp_path / "none")

    assert not little_memory.can_limit_memory()
