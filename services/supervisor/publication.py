"""The keys' side of a platform of many machines: whoever has the private keys publishes what the others read.

They get the public keys and the platform's own tokens in a folder that they only read, and never a private key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.shared.auth.key_folder import JWKS_FILE, KeyFolder, write_file
from services.shared.errors import FailedPreconditionError
from services.supervisor.authentication import PlatformTokens

LOOK_SECONDS = 1.0


class Publication:
    """Keeps a folder up to date: `jwks.json`, `tokens/alerts.jwt` and `tokens/telemetry.jwt`.

    Args:
        keys: Where the keys are.
        folder: Where to publish.
        tokens: The platform's own tokens; None: those in `folder`.
    """

    def __init__(self, keys: KeyFolder, folder: Path, tokens: PlatformTokens | None = None) -> None:
        self._keys = keys
        self._folder = folder
        self._tokens = tokens or PlatformTokens(keys, folder)

    def update(self) -> None:
        """Publishes what is new.

        Raises:
            FailedPreconditionError: There are no keys.
            OSError: The folder cannot be written.
        """
        if not self._keys.exists:
            raise FailedPreconditionError(f"There are no keys in {self._keys.path}: make them with `airis auth init`.")
        target = self._folder / JWKS_FILE
        # Before the tokens: who reads one knows the key that it is signed with.
        content = self._keys.jwks_file.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            write_file(target, content, 0o644)
        self._tokens.mint_when_due()

    async def run(self, ended: asyncio.Event, log: Callable[[str], None]) -> None:
        """Publishes until `ended`; says why when it cannot, and goes on. Raises as `update` does, the first time."""
        await asyncio.to_thread(self.update)
        while not ended.is_set():
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await ended.wait()
            except TimeoutError:
                try:
                    await asyncio.to_thread(self.update)
                except Exception as error:
                    # Whatever it is, it must not be the last look.
                    log(f"keys and tokens cannot be published: {error}")
