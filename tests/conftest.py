"""Fixtures that several suites share."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from postgres_fixture import postgres_server

pytest_plugins = ["servers_fixture"]


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[str]:
    """The socket folder of a PostgreSQL server that lives as long as the session."""
    with postgres_server() as socket:
        yield socket


@pytest.fixture
async def postgres_dsn(postgres_socket: str) -> AsyncIterator[str]:
    """The address of an empty database of the test's own."""
    database = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(f"postgresql://postgres@/postgres?host={postgres_socket}")
    try:
        await admin.execute(f"CREATE DATABASE {database}")
        yield f"postgresql://postgres@/{database}?host={postgres_socket}"
        await admin.execute(f"DROP DATABASE {database} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def temporary_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder for temporary files is a RAM disk, as far as the system tells."""
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(memory))
    mounts = [SimpleNamespace(mountpoint=str(memory), fstype="tmpfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
