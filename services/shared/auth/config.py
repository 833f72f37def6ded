"""The configuration of authentication."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.shared.auth.jwks import JwksFile
from services.shared.auth.principal import Authenticator, OpenDoor
from services.shared.auth.roles import Roles
from services.shared.auth.tokens import TokenVerifier
from services.shared.errors import InvalidArgumentError


class AuthConfig(BaseModel):
    """Settings of authentication.

    Attributes:
        enabled: Whether every call needs a token.
        jwks_file: The public keys that tokens are checked with; made by `airis auth init`.
        roles: Roles of your own by name, each a list of permissions: `{auditor: [logs.read, alerts.read]}`.
        max_cached_tokens: Verified tokens that a service remembers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = False
    jwks_file: Path | None = None
    roles: dict[str, list[str]] = Field(default_factory=dict)
    max_cached_tokens: int = Field(10_000, ge=1, le=1_000_000)

    @property
    def jwks_path(self) -> Path:
        """`jwks_file`. Raises `InvalidArgumentError` if authentication is on without it."""
        if self.jwks_file is None:
            raise InvalidArgumentError(
                "auth.enabled needs auth.jwks_file: make the keys with `airis auth init`, and name its jwks.json."
            )
        return self.jwks_file


def open_authenticator(config: AuthConfig, permissions: Collection[str]) -> Authenticator:
    """What checks the tokens of calls.

    Args:
        config: The settings.
        permissions: All that the contract knows: `resilience.contract.policies` has them.

    Raises:
        InvalidArgumentError: A setting is missing, or a role names an unknown permission.
        FailedPreconditionError: The public keys cannot be read.
    """
    Roles(permissions, config.roles)
    if not config.enabled:
        return OpenDoor(permissions)
    return TokenVerifier(JwksFile(config.jwks_path), max_cached=config.max_cached_tokens)
