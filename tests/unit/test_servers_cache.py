"""The cache of servers: what is in it is whole, made once, and needs no network again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from deploy.servers import tools
from deploy.servers.cache import Cache
from deploy.servers.catalogue import SERVERS
from deploy.servers.errors import ServerError
from deploy.servers.recipe import check_sha256, digest

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class FileRecipe:
    """Makes one file, or breaks off after half of it."""

    name: str = "file"
    version: str = "1"
    megabytes: int = 1
    online: bool = True
    breaks: bool = False

    def fetch(self, folder: Path) -> None:
        if not self.online:
            raise ServerError("there is no network")
        (folder / "content").write_text("half")
        if self.breaks:
            raise ServerError("the connection was cut")

    def build(self, folder: Path) -> None:
        (folder / "content").write_text("whole")


class OfflineRecipe(FileRecipe):
    """The same recipe, on a machine without network."""

    def fetch(self, folder: Path) -> None:
        raise ServerError("there is no network")

    def __repr__(self) -> str:
        return repr(FileRecipe(self.name, self.version))


def test_once_filled_it_needs_no_network(tmp_path: Path) -> None:
    lines: list[str] = []
    Cache(tmp_path).fill([FileRecipe()], lines.append)
    Cache(tmp_path).fill([OfflineRecipe()], lines.append)
    assert (Cache(tmp_path).installed(OfflineRecipe()) / "content").read_text() == "whole"
    assert lines[-1] == "file: 1 is there"


def test_what_broke_off_is_not_used_and_is_made_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ServerError, match="file: the connection was cut"):
        cache.fill([FileRecipe(breaks=True)], lambda _: None)
    assert not cache.has(FileRecipe(breaks=True))
    with pytest.raises(ServerError, match="run `make servers`"):
        cache.installed(FileRecipe(breaks=True))
    assert list(tmp_path.glob(".file-*.partial"))
    cache.fill([FileRecipe()], lambda _: None)
    assert (cache.installed(FileRecipe()) / "content").read_text() == "whole"
    assert not list(tmp_path.glob(".file-*.partial"))


def test_one_that_fails_does_not_keep_others_from_being_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ServerError, match="broken"):
        cache.fill([FileRecipe(name="broken", breaks=True), FileRecipe()], lambda _: None)
    assert cache.has(FileRecipe())


def test_another_recipe_is_made_beside_the_old(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fill([FileRecipe()], lambda _: None)
    changed = replace(FileRecipe(), megabytes=2)
    assert not cache.has(changed)
    cache.fill([changed], lambda _: None)
    assert cache.path(changed) != cache.path(FileRecipe())


def test_two_that_fill_it_at_once_make_it_once(tmp_path: Path) -> None:
    lines: list[str] = []
    both = [threading.Thread(target=Cache(tmp_path).fill, args=([FileRecipe()], lines.append)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert lines.count("file: fetching 1") == 1
    assert lines.count("file: 1 is there") == 1


def test_a_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "server.zip"
    file.write_bytes(b"another")
    with pytest.raises(ServerError, match=r"server\.zip is not the file that was expected"):
        check_sha256(file, "0" * 64)


def test_a_missing_java_is_told_with_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "old" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.touch(0o755)
    (tmp_path / "old" / "release").write_text('JAVA_VERSION="1.8.0_392"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    with pytest.raises(ServerError, match=rf"999 or newer is needed; found: {tmp_path}/old \(8\).*JAVA_HOME"):
        tools.java_home(999)


def test_a_failed_command_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('what went wrong'); raise SystemExit(3)"]
    with pytest.raises(ServerError, match="failed with 3:\nwhat went wrong"):
        tools.run(command, tmp_path, tmp_path / "log")


def test_the_list_shows_every_server_and_changes_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shown = subprocess.run(
        [sys.executable, "-m", "deploy.servers", "fetch", "--list"],
        cwd=ROOT,
        env={"AIRIS_SERVERS_CACHE": str(cache), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name, kind in SERVERS.items():
        assert any(line.split()[:2] == [name, kind.recipe.version] for line in shown.splitlines())
    assert not cache.exists()


def test_an_unknown_server_is_told(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.servers", "fetch", "oracle"], cwd=ROOT, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("deploy.servers: There is no server 'oracle'. Give one of jaeger, consul, kafka")


def test_a_recipe_is_known_by_its_content() -> None:
    """So that a cache that several checkouts share is right for each."""
    script = textwrap.dedent("""
        from deploy.servers.catalogue import SERVERS
        from deploy.servers.recipe import digest
        print([digest(kind.recipe) for kind in SERVERS.values()])
    """)
    printed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == str([digest(kind.recipe) for kind in SERVERS.values()])
