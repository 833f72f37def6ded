"""Who calls: what a token that was checked says."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from services.shared.errors import PermissionDeniedError

DEFAULT_TENANT = "default"
ANY_TENANT = "*"
"""The tenant of a token of the platform's own services: it must name in each call for whom it acts."""

TENANT_METADATA = "airis-tenant"
"""The metadata key, and HTTP header, in which such a token does so."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def is_tenant_name(name: str) -> bool:
    """Whether this may be the name of a tenant: small letters, digits and hyphens, 63 at most."""
    return _TENANT.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    Attributes:
        subject: Who: a person or a program.
        tenant: Whose data they reach; never "*".
        permissions: What they may do: "metrics.read".
        expires_at: When their token ends, in seconds since 1970; infinite without authentication.
    """

    subject: str
    tenant: str
    permissions: frozenset[str]
    expires_at: float


class Authenticator(Protocol):
    """Tells who calls. Thread-safe, and never waits for a network."""

    def authenticate(self, token: str | None, acting_tenant: str | None) -> Principal:
        """Checks a token.

        Args:
            token: What the call brought, without "Bearer"; None: nothing.
            acting_tenant: What the call's `airis-tenant` says; None: nothing.

        Raises:
            UnauthenticatedError: There is no token, or it is not valid; the reason says which.
            PermissionDeniedError: It may not act for that tenant, or does not say for which it acts.
        """


class OpenDoor:
    """Implements `Authenticator` where authentication is off: everybody may do everything as the tenant "default".

    Args:
        permissions: All that exist.
    """

    def __init__(self, permissions: Collection[str]) -> None:
        self._everybody = Principal("anonymous", DEFAULT_TENANT, frozenset(permissions), math.inf)

    def authenticate(self, token: str | None, acting_tenant: str | None) -> Principal:
        """See `Authenticator`; tokens are not looked at, so that clients can send theirs everywhere."""
        if acting_tenant is not None:
            check_acting_tenant(acting_tenant, DEFAULT_TENANT)
        return self._everybody


def check_acting_tenant(acting_tenant: str, own: str) -> None:
    """Raises `PermissionDeniedError` if a caller of one tenant acts for another."""
    if acting_tenant != own:
        raise PermissionDeniedError(
            f"{TENANT_METADATA} names another tenant than the token, which is for {own!r}. Leave it out.",
            metadata={"tenant": own},
        )
