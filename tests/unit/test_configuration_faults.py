"""A wrong setting is named in one sentence, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from airis.client.cli import app
from typer.testing import CliRunner

from services import config


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("AIRIS_METRICS__RAW_RETENTION_DAYS", "abc", "metrics.raw_retention_days"),
        ("AIRIS_METRICS__NOPE", "1", "metrics.nope"),
        ("AIRIS_METRICS", "foo", "metrics"),
        ("AIRIS_PROFILE", "nope", "'nope'"),
    ],
)
def test_a_wrong_variable_keeps_the_platform_from_starting(
    variable: str, value: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    answer = CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data")])
    assert answer.exit_code == 1
    assert named in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"{{{", b"text", b"metricz: {a: 1}", b"metrics: {a: 1}", b"\xff\xfe\xfd"])
def test_a_wrong_profile_keeps_the_platform_from_starting(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRIS_PROFILE", "embedded")
    profile = tmp_path / "profile.yaml"
    profile.write_bytes(content)
    answer = CliRunner().invoke(app, ["up", "--profile", str(profile), "--data-dir", str(tmp_path / "data")])
    assert answer.exit_code == 1
    assert answer.stderr.startswith("airis: The configuration")
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_folder_is_taken_from_where_the_service_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.read().data_dir == tmp_path / "data"
    monkeypatch.setenv("AIRIS_DATA_DIR", "~/airis")
    assert config.read().data_dir == Path.home() / "airis"
