"""The folder with the keys: private ones that only we may read, and the JWKS that everybody may.

A key signs only after it has been in the JWKS for a while, so that everybody who checks tokens knows it by then; it
leaves the JWKS when its last token has expired. Both follow from the time of making, which begins a key's id.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.shared.auth.tokens import LEEWAY, MAX_LIFETIME
from services.shared.errors import FailedPreconditionError

FOLDER = "auth"
JWKS_FILE = "jwks.json"
PUBLISH_SECONDS = 30.0
KEY_BITS = 3072
MAX_KEYS = 20
_ID_TIME = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key, without the key itself. Times are seconds since 1970.

    Attributes:
        kid: Its id.
        created_at: When it was made and published.
        signs_from: When it begins to sign.
        leaves_at: When it leaves the JWKS; None: no other key follows it yet.
        signs: Whether it signs now.
    """

    kid: str
    created_at: float
    signs_from: float
    leaves_at: float | None
    signs: bool


class KeyFolder:
    """The keys of one installation. Processes may use it at the same time; files are replaced as a whole.

    Args:
        data_dir: The platform's data; the keys are in its folder `auth`.
        clock: Seconds since 1970.
        key_bits: The length of new keys, 2048 or more.
    """

    def __init__(self, data_dir: Path, *, clock: Callable[[], float] = time.time, key_bits: int = KEY_BITS) -> None:
        self.path = data_dir / FOLDER
        self.jwks_file = self.path / JWKS_FILE
        self._clock = clock
        self._key_bits = key_bits

    @property
    def exists(self) -> bool:
        """Whether `init` was called once."""
        return self.jwks_file.exists()

    @property
    def is_incomplete(self) -> bool:
        """Whether there are private keys and no JWKS: it was lost, or the first `init` was interrupted."""
        return not self.exists and any(self.path.glob("*.pem"))

    def init(self) -> bool:
        """Makes the folder and its first key; returns False, and changes nothing, if they are there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        with self._locked():
            if self.exists:
                return False
            self._publish([self._make_key()])
        return True

    def rotate(self) -> KeyState:
        """Publishes a new key, which signs from `signs_from` on; earlier tokens stay valid until they expire."""
        self._check_exists()
        with self._locked():
            entries = self._prune()
            if len(entries) >= MAX_KEYS:
                raise FailedPreconditionError(
                    f"There are {len(entries)} keys whose tokens may be valid still. Wait until they have expired, "
                    f"{MAX_LIFETIME} seconds after the key that follows began to sign."
                )
            self._publish([*entries, self._make_key()])
        return self.states()[-1]

    def states(self) -> list[KeyState]:
        """The published keys, oldest first."""
        self._check_exists()
        return _states([entry["kid"] for entry in self._published()], self._clock())

    def prune(self) -> None:
        """Removes the keys whose last token has expired."""
        with self._locked():
            self._prune()

    def signing_key(self) -> tuple[str, rsa.RSAPrivateKey]:
        """The key that signs now, and its id.

        Raises:
            FailedPreconditionError: There are no keys, or others than their owner can read it.
        """
        kid = next(key.kid for key in self.states() if key.signs)
        file = self._private_file(kid)
        try:
            with file.open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                content = opened.read()
        except OSError as error:
            raise FailedPreconditionError(f"The private key {file} cannot be read: {error.strerror}.") from error
        if mode & 0o077:
            raise FailedPreconditionError(
                f"Others than its owner can read the private key {file}: it may be known to them. Make a new one "
                "with `airis auth keys rotate`, and take their rights with `chmod 600`."
            )
        try:
            # Our own file: checking its primes again would take a tenth of a second.
            key = serialization.load_pem_private_key(content, None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise FailedPreconditionError(f"{file} holds no RSA private key: `airis auth keys rotate` makes a new one.")
        return kid, key

    def _check_exists(self) -> None:
        if not self.exists:
            raise FailedPreconditionError(f"There are no keys in {self.path}: make them with `airis auth init`.")

    def _published(self) -> list[dict[str, str]]:
        try:
            entries: list[dict[str, str]] = json.loads(self.jwks_file.read_bytes())["keys"]
            entries.sort(key=lambda entry: _created_at(entry["kid"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FailedPreconditionError(
                f"{self.jwks_file} cannot be read: restore it, or remove {self.path} and make new keys with "
                "`airis auth init`; tokens made before are invalid then."
            ) from error
        if not entries:
            raise FailedPreconditionError(f"{self.jwks_file} has no keys: remove it and call `airis auth init`.")
        return entries

    def _prune(self) -> list[dict[str, str]]:
        now = self._clock()
        published = self._published()
        states = _states([entry["kid"] for entry in published], now)
        kept = {state.kid for state in states if state.leaves_at is None or state.leaves_at > now}
        entries = [entry for entry in published if entry["kid"] in kept]
        if len(entries) < len(published):
            self._publish(entries)
        # What was never published, because its making was interrupted, has signed nothing.
        for file in [*self.path.glob("*.pem"), *self.path.glob("*.tmp")]:
            if file.stem not in kept:
                file.unlink(missing_ok=True)
        return entries

    def _make_key(self) -> dict[str, str]:
        now = datetime.fromtimestamp(self._clock(), UTC)
        kid = f"{now.strftime(_ID_TIME)}-{secrets.token_hex(4)}"
        key = rsa.generate_private_key(public_exponent=65537, key_size=self._key_bits)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_file(self._private_file(kid), pem, 0o600)
        return _public_entry(kid, key.public_key())

    def _publish(self, entries: Sequence[dict[str, str]]) -> None:
        document = json.dumps({"keys": entries}, indent=1) + "\n"
        write_file(self.jwks_file, document.encode(), 0o644)

    def _private_file(self, kid: str) -> Path:
        return self.path / f"{kid}.pem"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Replaces a file as a whole; it never has more rights than these, not for a moment."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _states(kids: Sequence[str], now: float) -> list[KeyState]:
    created = [_created_at(kid) for kid in kids]
    starts = [made + PUBLISH_SECONDS for made in created]
    # The first key of all has nobody before it, and signs at once.
    starts[0] = min(starts[0], created[0])
    signing = max((index for index, start in enumerate(starts) if start <= now), default=0)
    ends = [start + MAX_LIFETIME + LEEWAY for start in starts[1:]]
    return [
        KeyState(kid, created[index], starts[index], [*ends, None][index], index == signing)
        for index, kid in enumerate(kids)
    ]


def _created_at(kid: str) -> float:
    return datetime.strptime(kid.rpartition("-")[0], _ID_TIME).replace(tzinfo=UTC).timestamp()


def _public_entry(kid: str, key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def _base64url(number: int) -> str:
    content = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
