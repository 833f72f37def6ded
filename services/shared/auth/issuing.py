"""Makes tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection

import jwt

from services.shared.auth.bearer import MAX_TOKEN_BYTES
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.principal import ANY_TENANT, is_tenant_name
from services.shared.auth.tokens import ALGORITHM, AUDIENCE, ISSUER, MAX_LIFETIME
from services.shared.errors import InvalidArgumentError

_LONGEST_SUBJECT = 256


class TokenIssuer:
    """Signs tokens with the key that is current.

    Args:
        keys: Where the keys are.
        clock: Seconds since 1970.
    """

    def __init__(self, keys: KeyFolder, *, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock

    def issue(
        self,
        *,
        subject: str,
        tenant: str,
        permissions: Collection[str],
        roles: Collection[str] = (),
        lifetime: int = MAX_LIFETIME,
    ) -> str:
        """A token.

        Args:
            subject: Who shows it: a person or a program.
            tenant: Whose data it reaches; "*" only for the platform's own services.
            permissions: What it allows.
            roles: Where they come from, for people who look at it.
            lifetime: Seconds until it expires, an hour at most.

        Raises:
            InvalidArgumentError: One of these is not possible.
            FailedPreconditionError: There is no key to sign with.
        """
        if not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
            raise InvalidArgumentError(f"A subject has 1 to {_LONGEST_SUBJECT} printable characters.")
        if tenant != ANY_TENANT and not is_tenant_name(tenant):
            raise InvalidArgumentError(
                "A tenant's name has small letters, digits and hyphens, 63 at most, and does not begin with a hyphen."
            )
        if not 1 <= lifetime <= MAX_LIFETIME:
            raise InvalidArgumentError(f"A token is valid for 1 second to {MAX_LIFETIME} seconds.")
        kid, key = self._keys.signing_key()
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "tenant": tenant,
            "roles": list(roles),
            "permissions": sorted(permissions),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": secrets.token_hex(16),
        }
        token = jwt.encode(claims, key, ALGORITHM, headers={"kid": kid})
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidArgumentError(
                f"With so many roles and permissions the token is longer than {MAX_TOKEN_BYTES} bytes, and no service "
                "would take it. Give it fewer."
            )
        return token
