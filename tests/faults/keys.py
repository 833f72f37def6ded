"""The keys of a platform under test, and tokens for its callers."""

from __future__ import annotations

from pathlib import Path

from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.permissions import contract_permissions
from services.shared.auth.principal import ANY_TENANT


class Keys:
    """Keys in a folder of the test's.

    Args:
        folder: Where.

    Attributes:
        settings: The `AIRIS_…` environment of services that ask for tokens made here.
    """

    def __init__(self, folder: Path) -> None:
        keys = KeyFolder(folder)
        keys.init()
        self._issuer = TokenIssuer(keys)
        self._service_token = folder / "service.token"
        self._service_token.write_text(self.token(ANY_TENANT))
        self.settings = {
            "AIRIS_AUTH__ENABLED": "true",
            "AIRIS_AUTH__JWKS_FILE": str(keys.jwks_file),
            "AIRIS_ALERTS__SIGNALS_TOKEN_FILE": str(self._service_token),
        }

    def token(self, tenant: str = "default") -> str:
        """A token that may do everything for a tenant, for an hour."""
        return self._issuer.issue(subject="test", tenant=tenant, permissions=contract_permissions())
