"""The folder with what recipes made: each in a folder of its own, there whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from deploy.servers.errors import ServerError
from deploy.servers.recipe import LOG, FromWheel, Recipe, digest
from deploy.servers.tools import tail

MARKER = "made.json"
_HEARTBEAT_SECONDS = 15.0
Say = Callable[[str], None]


class Cache:
    """What was made, by recipe.

    Args:
        folder: Where; None: `AIRIS_SERVERS_CACHE`, else `~/.cache/airis/servers`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        default = os.environ.get("AIRIS_SERVERS_CACHE") or "~/.cache/airis/servers"
        self.folder = (folder or Path(default)).expanduser().absolute()
        # A compiler takes all cores: one at a time, while others download.
        self._building = threading.Lock()

    def path(self, recipe: Recipe) -> Path:
        """Where it is, or will be."""
        return self.folder / f"{recipe.name}-{recipe.version}-{digest(recipe)}"

    def has(self, recipe: Recipe) -> bool:
        """Whether it is there."""
        return isinstance(recipe, FromWheel) or (self.path(recipe) / MARKER).is_file()

    def installed(self, recipe: Recipe) -> Path:
        """Where it is.

        Raises:
            ServerError: It is not there.
        """
        if not self.has(recipe):
            raise ServerError(
                f"{recipe.name} {recipe.version} is not in {self.folder}: run `make servers`, "
                f"or `python -m deploy.servers fetch {recipe.name}`."
            )
        return self.path(recipe)

    def fill(self, recipes: list[Recipe], say: Say) -> None:
        """Makes what is missing, several at a time. What was made stays made, even if another fails.

        Raises:
            ServerError: One or more could not be made; says why.
        """
        faults: list[str] = []

        def make(recipe: Recipe) -> None:
            try:
                self.make(recipe, say)
            except (ServerError, OSError) as error:
                say(f"{recipe.name}: failed")
                faults.append(f"{recipe.name}: {error}")

        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max(1, len(recipes))) as threads:
            list(threads.map(make, recipes))
        if faults:
            raise ServerError("\n".join(faults))

    def make(self, recipe: Recipe, say: Say) -> None:
        """Makes one, unless it is there.

        Raises:
            ServerError: It could not be made.
        """
        if self.has(recipe):
            say(f"{recipe.name}: {recipe.version} is there")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(recipe, say):
            if self.has(recipe):
                say(f"{recipe.name}: {recipe.version} is there")
                return
            for broken in self.folder.glob(f".{recipe.name}-*.partial"):
                shutil.rmtree(broken, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-", suffix=".partial", dir=self.folder))
            # Servers may run as another user than the one who fills the cache.
            work.chmod(0o755)
            started = time.monotonic()
            with _heartbeat(recipe, "fetching", work / LOG, say):
                recipe.fetch(work)
            with self._building, _heartbeat(recipe, "building", work / LOG, say):
                recipe.build(work)
            seconds = round(time.monotonic() - started, 1)
            (work / MARKER).write_text(json.dumps({"version": recipe.version, "seconds": seconds}))
            work.rename(self.path(recipe))
            say(f"{recipe.name}: {recipe.version} is ready, {_megabytes(self.path(recipe))} MB, {seconds:g} s")

    @contextmanager
    def _locked(self, recipe: Recipe, say: Say) -> Iterator[None]:
        with (self.folder / f".{recipe.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{recipe.name}: waiting for another process that makes it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _heartbeat(recipe: Recipe, doing: str, log: Path, say: Say) -> Iterator[None]:
    """Says every now and then that it goes on, with the last line of its output."""
    over = threading.Event()
    started = time.monotonic()

    def beat() -> None:
        while not over.wait(_HEARTBEAT_SECONDS):
            say(f"{recipe.name}: {doing} ({time.monotonic() - started:.0f} s) {tail(log, 1)[:100]}")

    say(f"{recipe.name}: {doing} {recipe.version}")
    thread = threading.Thread(target=beat, name=f"heartbeat-{recipe.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _megabytes(folder: Path) -> int:
    return round(sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6)
