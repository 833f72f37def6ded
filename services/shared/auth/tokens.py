"""Checks tokens: JWT, RS256 and nothing else, in a few microseconds for one that was seen before."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError
from jwt.types import SigOptions

from services.shared.auth.bearer import MAX_TOKEN_BYTES, too_long
from services.shared.auth.jwks import KeySource
from services.shared.auth.principal import (
    ANY_TENANT,
    TENANT_METADATA,
    Principal,
    check_acting_tenant,
    is_tenant_name,
)
from services.shared.errors import PermissionDeniedError, UnauthenticatedError

ISSUER = "airis-epm"
AUDIENCE = "airis-services"
ALGORITHM = "RS256"
TYPE = "JWT"
MAX_LIFETIME = 3600
"""Seconds from a token's issue to its end, at most."""

LEEWAY = 5.0
"""Seconds that the clock of whoever made a token may be ahead of ours."""

_MAX_NAMES = 256
_MAX_LENGTH = 256
_OPTIONS: SigOptions = {"enforce_minimum_key_length": True}


class TokenVerifier:
    """Implements `Authenticator`.

    What was verified is remembered by the token's SHA-256 until the token expires; all of it is forgotten when the
    set of keys changes.

    Args:
        keys: The public keys.
        clock: Seconds since 1970.
        max_cached: Tokens to remember; the least recently used one goes first.
    """

    def __init__(self, keys: KeySource, *, clock: Callable[[], float] = time.time, max_cached: int = 10_000) -> None:
        self._keys = keys
        self._clock = clock
        self._max_cached = max_cached
        self._jws = PyJWS(algorithms=[ALGORITHM])
        self._lock = threading.Lock()
        self._verified: OrderedDict[bytes, Principal] = OrderedDict()
        self._generation = 0

    def authenticate(self, token: str | None, acting_tenant: str | None) -> Principal:
        """See `Authenticator`."""
        if not token:
            raise UnauthenticatedError(
                "The call has no token. Send `authorization: Bearer <token>`; `airis auth token` makes one.",
                reason="TOKEN_MISSING",
            )
        if len(token) > MAX_TOKEN_BYTES:
            raise too_long()
        principal = self._verify_once(token)
        if acting_tenant is None and principal.tenant != ANY_TENANT:
            return principal
        return _acting(principal, acting_tenant)

    def _verify_once(self, token: str) -> Principal:
        # Before the verification: what the keys of now verify is never kept under those of later.
        generation = self._keys.generation()
        key = sha256(token.encode("utf-8", "replace")).digest()
        now = self._clock()
        with self._lock:
            if generation != self._generation:
                self._verified.clear()
                self._generation = generation
            principal = self._verified.get(key)
            if principal is not None:
                if principal.expires_at > now:
                    self._verified.move_to_end(key)
                    return principal
                del self._verified[key]
        principal = self._verify(token, now)
        with self._lock:
            if generation == self._generation:
                self._verified[key] = principal
                if len(self._verified) > self._max_cached:
                    self._verified.popitem(last=False)
        return principal

    def _verify(self, token: str, now: float) -> Principal:
        try:
            header = self._jws.get_unverified_header(token)
            kid, kind = header.get("kid"), header.get("typ")
            if header.get("alg") != ALGORITHM:
                raise UnauthenticatedError(f"The token is not signed with {ALGORITHM}.")
            if not (isinstance(kind, str) and kind.upper() == TYPE):
                raise UnauthenticatedError(f"The token's type is not {TYPE}.")
            if not isinstance(kid, str) or not kid:
                raise UnauthenticatedError("The token does not say which key signed it.")
            key = self._keys.find(kid)
            if key is None:
                raise UnauthenticatedError("The token's key is not known here. Get a new token.")
            payload = self._jws.decode_complete(token, key, algorithms=[ALGORITHM], options=_OPTIONS)["payload"]
            claims = json.loads(payload)
        except (PyJWTError, ValueError, RecursionError):
            # Their texts may quote the token.
            raise UnauthenticatedError("The token is malformed, or its signature is wrong.") from None
        if not isinstance(claims, dict):
            raise UnauthenticatedError("The token holds no claims.")
        return _principal(claims, now)


def _principal(claims: dict[str, Any], now: float) -> Principal:
    if claims.get("iss") != ISSUER:
        raise UnauthenticatedError(f"The token was not issued by {ISSUER}.")
    audience = claims.get("aud")
    if audience != AUDIENCE and not (isinstance(audience, list) and AUDIENCE in audience):
        raise UnauthenticatedError(f"The token is not for {AUDIENCE}.")
    expires_at = _check_times(claims, now)
    subject, tenant, permissions = claims.get("sub"), claims.get("tenant"), claims.get("permissions")
    for name in ("sub", "jti"):
        if not (isinstance(claims.get(name), str) and 0 < len(claims[name]) <= _MAX_LENGTH):
            raise UnauthenticatedError(f"The token has no valid {name}.")
    if not (isinstance(tenant, str) and (tenant == ANY_TENANT or is_tenant_name(tenant))):
        raise UnauthenticatedError("The token names no valid tenant.")
    if not _are_names(permissions):
        raise UnauthenticatedError("The token has no valid list of permissions.")
    return Principal(str(subject), tenant, frozenset(permissions or ()), expires_at)


def _check_times(claims: dict[str, Any], now: float) -> float:
    issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
    not_before = _seconds(claims, "nbf") if "nbf" in claims else issued
    if expires - issued > MAX_LIFETIME:
        raise UnauthenticatedError(f"The token is valid for longer than {MAX_LIFETIME} seconds.")
    if now >= expires:
        raise UnauthenticatedError("The token has expired. Get a new one.", reason="TOKEN_EXPIRED")
    if max(issued, not_before) > now + LEEWAY:
        raise UnauthenticatedError("The token is not valid yet. Compare the clocks of the machines.")
    return expires


def _seconds(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    # JSON as Python reads it has NaN and infinities, and a whole number may be longer than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12 or math.isnan(value):
        raise UnauthenticatedError(f"The token has no valid {name}.")
    return float(value)


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_NAMES
        and all(isinstance(name, str) and 0 < len(name) <= _MAX_LENGTH for name in value)
    )


def _acting(principal: Principal, acting_tenant: str | None) -> Principal:
    if principal.tenant != ANY_TENANT:
        if acting_tenant is not None:
            check_acting_tenant(acting_tenant, principal.tenant)
        return principal
    if acting_tenant is None or not is_tenant_name(acting_tenant):
        raise PermissionDeniedError(
            f"A token for every tenant must name the one that it acts for in {TENANT_METADATA}.",
            metadata={"tenant": ANY_TENANT},
        )
    return Principal(principal.subject, acting_tenant, principal.permissions, principal.expires_at)
