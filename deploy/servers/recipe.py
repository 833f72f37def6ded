"""Recipes: how a server gets from its ecosystem's registry into a folder."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from deploy.servers import tools
from deploy.servers.errors import ServerError

SOURCES = Path(__file__).with_name("sources")
LOG = "build.log"
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# Two Mavens at once may spoil their common repository.
_maven = threading.Lock()


class Recipe(Protocol):
    """How one server is had.

    Attributes:
        name: The server's name.
        version: The server's version.
        megabytes: About what it takes in the cache.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def megabytes(self) -> int: ...

    def fetch(self, folder: Path) -> None:
        """Gets what comes over the network into `folder`, the work folder."""
        ...

    def build(self, folder: Path) -> None:
        """Makes the rest of `folder` from it; needs no network."""
        ...


@dataclass(frozen=True)
class MavenLibraries:
    """The jars that the `pom.xml` names, with those they need, in `lib`.

    Attributes:
        sha256: Of files that the registry has no checksum for; with them Maven's own check is put off.
    """

    name: str
    version: str
    megabytes: int
    sha256: tuple[tuple[str, str], ...] = ()

    def fetch(self, folder: Path) -> None:
        """Fetches them; Maven checks their checksums."""
        shutil.copy(SOURCES / self.name / "pom.xml", folder / "pom.xml")
        check = [] if self.sha256 else ["--strict-checksums"]
        maven = [tools.program("mvn", "Maven 3.6 or newer"), "--batch-mode", "--no-transfer-progress", *check]
        options = [f"-DoutputDirectory={folder / 'lib'}", "-DincludeScope=runtime"]
        with _maven:
            tools.run([*maven, _COPY_DEPENDENCIES, *options], folder, folder / LOG)
        for file, expected in self.sha256:
            check_sha256(folder / "lib" / file, expected)

    def build(self, folder: Path) -> None:
        """Nothing: jars run as they are."""


@dataclass(frozen=True)
class NpmPackage:
    """What `package-lock.json` names, in `node_modules`."""

    name: str
    version: str
    megabytes: int

    def fetch(self, folder: Path) -> None:
        """Fetches it; npm checks the lock's checksums. No script of the package runs."""
        for file in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / self.name / file, folder / file)
        npm = tools.program("npm", "Node.js 18 or newer with npm")
        tools.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, folder / LOG)

    def build(self, folder: Path) -> None:
        """Nothing: the package brings it built."""


@dataclass(frozen=True)
class GoProgram:
    """A program of the module in `go.mod`, as `bin/<name>`.

    Attributes:
        package: Its import path; ".": the sources beside `go.mod`.
        c_compiler: Whether parts in C are linked into it, as its makers do.
    """

    name: str
    version: str
    megabytes: int
    package: str
    c_compiler: ClassVar[bool] = False

    def fetch(self, folder: Path) -> None:
        """Fetches the sources of what is linked into it; Go checks them against `go.sum`."""
        if self.c_compiler:
            tools.program("gcc", "a C compiler")
        for file in (SOURCES / self.name).iterdir():
            shutil.copy(file, folder)
        # Lists what the program is made of, and so fetches just that: `go mod download` would fetch every module.
        tools.run([_go(), "list", "-deps", "-mod=readonly", self.package], folder, folder / LOG, self._environment)

    def build(self, folder: Path) -> None:
        """Compiles and links it, without debug information."""
        output = folder / "bin" / self.name
        arguments = ["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(output)]
        tools.run([_go(), *arguments, self.package], folder, folder / LOG, self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return {"CGO_ENABLED": "1" if self.c_compiler else "0"}


@dataclass(frozen=True)
class GoProgramWithC(GoProgram):
    """A Go program with parts in C."""

    c_compiler: ClassVar[bool] = True


@dataclass(frozen=True)
class FromWheel:
    """A server that comes with the locked Python packages: there is nothing to do."""

    name: str
    version: str
    megabytes: int = 0

    def fetch(self, folder: Path) -> None:
        """Nothing."""

    def build(self, folder: Path) -> None:
        """Nothing."""


def check_sha256(file: Path, expected: str) -> None:
    """Compares a file with its checksum.

    Raises:
        ServerError: It is another file.
    """
    with file.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != expected:
        raise ServerError(f"{file.name} is not the file that was expected: its SHA-256 is {actual}, not {expected}.")


def digest(recipe: Recipe) -> str:
    """Changes whenever the recipe or one of its source files does."""
    content = hashlib.sha256(repr(recipe).encode())
    for path in _source_files(recipe.name):
        content.update(f"\0{path.relative_to(SOURCES)}\0".encode())
        content.update(path.read_bytes())
    return content.hexdigest()[:12]


def _source_files(name: str) -> Iterator[Path]:
    return iter(sorted(path for path in (SOURCES / name).rglob("*") if path.is_file()))


def _go() -> str:
    return tools.program("go", "Go 1.24 or newer")
