"""Settings with passwords may be files."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.config import read
from services.shared.errors import InvalidArgumentError


def test_a_secret_file_is_a_setting_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "AIRIS_POSTGRES__DSN").write_text("postgresql://airis:secret@postgres/airis\n")
    (tmp_path / "AIRIS_REDIS__URL").write_text("redis://:secret@redis/0")
    (tmp_path / "of_somebody_else").write_text("…")
    monkeypatch.setenv("AIRIS_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("AIRIS_REDIS__URL", "redis://other/0")
    monkeypatch.setenv("AIRIS_PROFILE", "distributed")
    configuration = read()
    assert configuration.postgres.dsn == "postgresql://airis:secret@postgres/airis"
    assert configuration.redis.url == "redis://other/0"
    assert configuration.bus.kind == "kafka"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRIS_SECRETS_DIR", str(tmp_path / "nope"))
    with pytest.raises(InvalidArgumentError, match="nope"):
        read()


def test_a_wrong_setting_in_a_file_is_named_without_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "AIRIS_ALERTS__MAIL__PASWORD").write_text("hunter2")
    monkeypatch.setenv("AIRIS_SECRETS_DIR", str(tmp_path))
    with pytest.raises(InvalidArgumentError, match=r"alerts\.mail\.pasword") as error:
        read()
    assert "hunter2" not in error.value.message
