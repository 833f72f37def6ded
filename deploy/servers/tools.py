"""The programs that recipes and servers need from the machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.servers.errors import ServerError

_JVM_FOLDERS = ("/usr/lib/jvm", "/usr/java", "/opt/java", "/opt", "/usr/local/lib/jvm")
_TAIL_LINES = 20


def program(name: str, package: str) -> str:
    """The path of a program.

    Raises:
        ServerError: It is not there.
    """
    path = shutil.which(name)
    if path is None:
        raise ServerError(f"`{name}` is missing: install {package} and put it on the PATH.")
    return path


def java_home(release: int, compiler: bool = False) -> Path:
    """The newest Java of at least this release: by JAVA_HOME, on the PATH, or where systems keep it.

    Args:
        release: Such as 21.
        compiler: Whether it must have `javac`.

    Raises:
        ServerError: There is none.
    """
    needed = "javac" if compiler else "java"
    found = {home: _release(home) for home in _java_homes() if (home / "bin" / needed).exists()}
    fitting = [home for home, its_release in found.items() if its_release >= release]
    if not fitting:
        kind = "JDK (a Java with its compiler)" if compiler else "Java runtime"
        seen = ", ".join(f"{home} ({its_release or 'of unknown release'})" for home, its_release in found.items())
        raise ServerError(
            f"A {kind} {release} or newer is needed; found: {seen or 'none'}. Install one (Temurin or OpenJDK), "
            "or let JAVA_HOME point to it."
        )
    return max(fitting, key=lambda home: found[home])


def run(command: Sequence[str], folder: Path, log: Path, environment: dict[str, str] | None = None) -> None:
    """Runs a program to its end, its output appended to a file.

    Raises:
        ServerError: It failed; with the last lines it wrote.
    """
    with log.open("ab") as output:
        code = subprocess.run(  # noqa: S603
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if code != 0:
        raise ServerError(f"`{Path(command[0]).name} {' '.join(command[1:])}` failed with {code}:\n{tail(log)}")


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a file; empty when there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _java_homes() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home)
    if java := shutil.which("java"):
        yield Path(java).resolve().parent.parent
    for folder in map(Path, _JVM_FOLDERS):
        if folder.is_dir():
            yield from sorted(child for child in folder.iterdir() if (child / "bin" / "java").exists())


def _release(home: Path) -> int:
    text = (home / "release").read_text() if (home / "release").exists() else ""
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, re.M)
    return int(match.group(1)) if match else 0
