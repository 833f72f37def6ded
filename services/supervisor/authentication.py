"""Authentication of one run: whether it is on, what the services are told of it, and the platform's own tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder, write_file
from services.shared.auth.principal import ANY_TENANT, DEFAULT_TENANT
from services.shared.auth.tokens import MAX_LIFETIME

RENEW_BEFORE_SECONDS = 20 * 60
_LOOK_SECONDS = 15.0
_RETRY_SECONDS = 60.0
_SIGNALS = ("metrics", "logs", "traces")


class PlatformTokens:
    """The tokens that the platform's own programs show each other, in files that are replaced before they expire.

    Args:
        keys: What they are signed with.
        runtime: The runtime folder of this run, which only we may enter.
        clock: Seconds since 1970: a machine that slept has missed some.
    """

    def __init__(self, keys: KeyFolder, runtime: Path, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = TokenIssuer(keys, clock=clock)
        self._clock = clock
        self._planned_at = self._next = 0.0
        self._folder = runtime / "tokens"
        self.alerts = self._folder / "alerts.jwt"
        self.telemetry = self._folder / "telemetry.jwt"

    def environment(self) -> dict[str, str]:
        """What the services and the demo's programs are told; the tokens themselves are in the files only."""
        return {
            "AIRIS_AUTH__ENABLED": "true",
            "AIRIS_AUTH__JWKS_FILE": str(self._keys.jwks_file),
            "AIRIS_ALERTS__SIGNALS_TOKEN_FILE": str(self.alerts),
            "AIRIS_TELEMETRY__TOKEN_FILE": str(self.telemetry),
        }

    def mint(self) -> None:
        """Makes both tokens anew, and lets keys go whose tokens have all expired.

        Raises:
            AirisError: There is no key to sign with.
            OSError: The files cannot be written.
        """
        # Asked before the tokens are made: should it be put right meanwhile, they are made again.
        now = self._clock()
        self._keys.prune()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Alerts evaluates the rules of every tenant, and says in each call for which one.
        self._write(self.alerts, "airis-alerts", ANY_TENANT, "read")
        self._write(self.telemetry, "airis-telemetry", DEFAULT_TENANT, "write")
        self._plan(now, MAX_LIFETIME - RENEW_BEFORE_SECONDS)

    def mint_when_due(self) -> bool:
        """Makes them anew if they expire soon, or were made by a clock that was ahead; returns whether it did.

        Raises as `mint` does, then waits a minute.
        """
        now = self._clock()
        # A token of a time that has not come is not valid yet.
        if self._planned_at <= now < self._next:
            return False
        self._plan(now, _RETRY_SECONDS)
        self.mint()
        return True

    async def keep(self, log: Callable[[str, str], None]) -> None:
        """Keeps them valid until cancelled; says why when it cannot."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.mint_when_due)
            # Nobody awaits this: whatever it is, it must not be the last look.
            except Exception as error:
                log("airis", f"the platform's own tokens cannot be renewed: {error}")

    def _plan(self, now: float, seconds: float) -> None:
        self._planned_at, self._next = now, now + seconds

    def _write(self, file: Path, subject: str, tenant: str, verb: str) -> None:
        permissions = [f"{signal}.{verb}" for signal in _SIGNALS]
        token = self._issuer.issue(subject=subject, tenant=tenant, permissions=permissions)
        write_file(file, f"{token}\n".encode("ascii"), 0o600)
