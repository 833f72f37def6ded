"""The public keys that tokens are checked with, read from a JWKS file that may be replaced at any time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from services.shared.errors import FailedPreconditionError

logger = structlog.get_logger(__name__)

MIN_KEY_BITS = 2048
_CHECK_SECONDS = 1.0
_UNKNOWN_CHECK_SECONDS = 0.1
_MAX_FILE_BYTES = 256 * 1024


class KeySource(Protocol):
    """Where public keys come from. Thread-safe."""

    def generation(self) -> int:
        """Grows with each change of the set; looks for a change now and then."""

    def find(self, kid: str) -> RSAPublicKey | None:
        """The key of that id; an unknown one is looked for at once, within limits."""


class JwksFile:
    """Implements `KeySource` on a file.

    A file that cannot be read later on leaves the keys as they are: a half-done backup must not lock everybody out.

    Args:
        path: The JWKS file.
        clock: Monotonic seconds.

    Raises:
        FailedPreconditionError: It cannot be read, or has no usable key.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._generation = 1
        self._checked = clock()
        try:
            # Before the reading: a file that is replaced in between is read again.
            self._seen: tuple[int, int, int] | None = self._stamp()
            self._keys = _read(path)
        except (OSError, ValueError) as error:
            raise FailedPreconditionError(
                f"The public keys {path} cannot be used ({_cause(error)}): make them with `airis auth init`, or let "
                "auth.jwks_file name the right file."
            ) from error

    def generation(self) -> int:
        """See `KeySource`; the file is looked at once a second at most."""
        if self._clock() - self._checked >= _CHECK_SECONDS:
            self._refresh(_CHECK_SECONDS)
        return self._generation

    def find(self, kid: str) -> RSAPublicKey | None:
        """See `KeySource`; ten looks a second at most, so that forged ids cost next to nothing."""
        key = self._keys.get(kid)
        if key is None:
            self._refresh(_UNKNOWN_CHECK_SECONDS)
            key = self._keys.get(kid)
        return key

    def _refresh(self, after: float) -> None:
        with self._lock:
            now = self._clock()
            if now - self._checked < after:
                return
            self._checked = now
            try:
                stamp = self._stamp()
                if stamp == self._seen:
                    return
                self._seen = stamp
                keys = _read(self._path)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError):
                    # What could not be opened once may hold new keys all the same.
                    self._seen = None
                logger.warning("jwks_unreadable", path=str(self._path), cause=_cause(error))
                return
            self._keys = keys
            self._generation += 1
            logger.info("jwks_read", path=str(self._path), keys=len(keys))

    def _stamp(self) -> tuple[int, int, int]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path) -> Mapping[str, RSAPublicKey]:
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
    return parse_jwks(content)


def parse_jwks(content: bytes) -> Mapping[str, RSAPublicKey]:
    """The RS256 keys of a JWKS document by their ids; other kinds of keys are passed over.

    Raises:
        ValueError: It is no JWKS, has no such key, an id twice, or a key shorter than 2048 bits.
    """
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("it is no JWKS document") from None
    keys: dict[str, RSAPublicKey] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not (isinstance(entry, dict) and entry.get("kty") == "RSA" and entry.get("alg", "RS256") == "RS256"):
            continue
        kid = entry.get("kid")
        if not isinstance(kid, str) or not kid or entry.get("use", "sig") != "sig":
            continue
        if kid in keys:
            raise ValueError(f"it has the key {kid!r} twice")
        keys[kid] = _public_key(kid, entry)
    if not keys:
        raise ValueError("it has no RSA key with an id for RS256")
    return keys


def _public_key(kid: str, entry: dict[str, Any]) -> RSAPublicKey:
    try:
        # Only these two: a private key that was put here by mistake stays out of memory.
        key = RSAAlgorithm.from_jwk({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    except (InvalidKeyError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"the key {kid!r} is broken") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError(f"the key {kid!r} has fewer than {MIN_KEY_BITS} bits")
    return key


def _cause(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
