"""Keys of a test's own, and tokens that carry exactly the permissions that are asked for."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from conformance_contract import RPCS, TRIALS, Rpc

from services.shared.auth.issuing import TokenIssuer
from services.shared.auth.jwks import JwksFile
from services.shared.auth.key_folder import KeyFolder
from services.shared.auth.tokens import TokenVerifier

PERMISSIONS = frozenset(rpc.policy.permission for rpc in (*RPCS, *TRIALS))

Metadata = tuple[tuple[str, str], ...]


class Tokens:
    """One key and the tokens that it signs.

    Args:
        folder: For the key.
    """

    def __init__(self, folder: Path) -> None:
        self._keys = KeyFolder(folder, key_bits=2048)
        self._keys.init()
        self._issuer = TokenIssuer(self._keys)
        self._made: dict[tuple[frozenset[str], str], str] = {}

    @property
    def jwks(self) -> bytes:
        """The public key as Envoy asks for it."""
        return self._keys.jwks_file.read_bytes()

    @cached_property
    def verifier(self) -> TokenVerifier:
        """What the services check tokens with."""
        return TokenVerifier(JwksFile(self._keys.jwks_file))

    def metadata(self, permissions: Collection[str], tenant: str = "acme") -> Metadata:
        """The `authorization` of a caller."""
        wanted = (frozenset(permissions), tenant)
        if wanted not in self._made:
            self._made[wanted] = self._issuer.issue(subject="someone", tenant=tenant, permissions=permissions)
        return (("authorization", f"Bearer {self._made[wanted]}"),)

    def allowed(self, rpc: Rpc, tenant: str = "acme") -> Metadata:
        """Of a caller who may do this and nothing else."""
        return self.metadata({rpc.policy.permission}, tenant)

    def forbidden(self, rpc: Rpc) -> Metadata:
        """Of a caller who may do everything but this."""
        return self.metadata(PERMISSIONS - {rpc.policy.permission})
