"""What refuses a start: a folder in use, newer data, a full disk, a port in use; each in one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import free_offset

from services.supervisor import ports
from services.supervisor.app import status
from services.supervisor.data_folder import DATA_FORMAT, DataFolder, is_running
from services.supervisor.envoy_config import DESCRIPTORS, listener_ports, runtime_config
from services.supervisor.program import StartError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    folder = DataFolder(tmp_path / "data", minimum_free_bytes=0)
    yield folder
    folder.close()


def up(data_dir: Path, port_offset: int) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from pathlib import Path; from services.supervisor.app import up;"
        f"sys.exit(up(Path({str(data_dir)!r}), {port_offset}, False, None))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_folder_is_made_with_a_short_runtime_folder_that_goes_again(folder: DataFolder) -> None:
    folder.open()
    assert is_running(folder.path)
    assert json.loads((folder.path / "version.json").read_text()) == {"data_format": DATA_FORMAT}
    assert folder.runtime.is_dir()
    assert len(str(folder.runtime / "postgres" / ".s.PGSQL.5432")) < 100
    folder.close()
    assert not folder.runtime.exists()
    assert not is_running(folder.path)


def test_the_version_outlives_a_power_cut_right_after_the_first_start(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), (folder.path / "version.json").exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folder.open()
    # What is in it before it has its name, and then that it has it.
    (content, named_before), (parent, named) = synced
    assert (content.parent, named_before) == (folder.path, False)
    assert (parent, named) == (folder.path, True)


def test_a_folder_in_use_is_refused_and_names_the_process(folder: DataFolder) -> None:
    folder.open()
    result = up(folder.path, 0)
    assert result.returncode == 1
    assert "is in use by another AIRIS (process " in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_children_of_a_crashed_supervisor_are_waited_for(tmp_path: Path) -> None:
    crashed = DataFolder(tmp_path, minimum_free_bytes=0)
    crashed.open()
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=crashed.inherited)
    crashed.close()
    try:
        with pytest.raises(StartError, match="that crashed still use the data directory"):
            DataFolder(tmp_path, orphans_seconds=0.2, minimum_free_bytes=0).open()
    finally:
        orphan.communicate(b"\n")
    after = DataFolder(tmp_path, orphans_seconds=5, minimum_free_bytes=0)
    after.open()
    after.close()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps({"data_format": DATA_FORMAT + 1}), "written by a newer AIRIS"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_data_of_another_version_is_refused(folder: DataFolder, content: str, sentence: str) -> None:
    folder.path.mkdir()
    (folder.path / "version.json").write_text(content)
    with pytest.raises(StartError, match=sentence):
        folder.open()
    assert (folder.path / "version.json").read_text() == content


def test_a_full_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"is full \(\d+ MiB free"):
        DataFolder(tmp_path, minimum_free_bytes=1 << 62).open()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="cannot be used"):
        DataFolder(tmp_path / "file" / "data").open()


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    offset = free_offset(*ports.ALL)
    with socket.create_server(("127.0.0.1", 8002 + offset)):
        result = up(tmp_path / "data", offset)
    assert result.returncode == 1
    assert result.stderr == (
        f"airis: Port {8002 + offset} is in use: stop what listens there, or shift all of AIRIS's ports with "
        f"--port-offset {offset + 1000}.\n"
    )
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("offset", [-1, 60_000])
def test_an_offset_that_leaves_the_range_of_ports_is_refused(tmp_path: Path, offset: int) -> None:
    result = up(tmp_path / "data", offset)
    assert result.returncode == 1
    assert result.stderr == f"airis: --port-offset {offset} is not possible: give one of 0 to 50000.\n"


def test_status_says_when_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(tmp_path) == 1
    assert "does not run" in capsys.readouterr().err


def test_envoys_ports_are_shifted_and_its_descriptors_found() -> None:
    shifted = runtime_config(1000)
    assert listener_ports(shifted) == {"edge": 9080, "otlp-grpc": 5317, "otlp-http": 5318, "admin": 10901}
    endpoints = {
        cluster["name"]: cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        for cluster in shifted["static_resources"]["clusters"]
    }
    for name, address in endpoints.items():
        # A cluster is of a service's HTTP port, or of one of its pools of calls.
        signal, _, pool = name.partition("-")
        expected = ports.HTTP[signal] if pool == "http" else ports.GRPC[signal]
        assert address["socket_address"]["port_value"] == expected + 1000
    assert {name.partition("-")[0] for name in endpoints} == set(ports.GRPC)
    assert f"'proto_descriptor': '{DESCRIPTORS}'" in str(shifted)
