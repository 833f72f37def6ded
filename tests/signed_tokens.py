"""Keys and tokens of a test's own: right ones, and ones that are wrong in exactly one way."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NOW = 1_800_000_000.0
KID = "the-key"


@cache
def key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One of a few keys that are made once: making one takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public_pem(private: rsa.RSAPrivateKey) -> bytes:
    """The public key as everybody may have it."""
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def jwk(kid: str, private: rsa.RSAPrivateKey) -> dict[str, str]:
    """The public key's entry in a JWKS."""
    numbers = private.public_key().public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": kid,
        "n": _base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": _base64url(numbers.e.to_bytes(3, "big")),
    }


def write_jwks(path: Path, keys: dict[str, rsa.RSAPrivateKey]) -> Path:
    """Replaces a JWKS file as a whole."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"keys": [jwk(kid, private) for kid, private in keys.items()]}))
    temporary.replace(path)
    return path


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a valid token, with changes; None leaves one out."""
    made = {
        "iss": "airis-epm",
        "aud": "airis-services",
        "sub": "someone",
        "tenant": "acme",
        "roles": ["viewer"],
        "permissions": ["logs.read", "metrics.read"],
        "iat": int(NOW),
        "nbf": int(NOW),
        "exp": int(NOW) + 3600,
        "jti": "0123456789abcdef",
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def token(
    private: rsa.RSAPrivateKey | None = None,
    *,
    header: dict[str, Any] | None = None,
    kid: str | None = KID,
    **changes: Any,
) -> str:
    """A token that is valid but for the changes of its claims."""
    headers = {**({} if kid is None else {"kid": kid}), **(header or {})}
    return jwt.encode(claims(**changes), private or key(), "RS256", headers=headers)


def raw(header: Any, payload: Any, signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(_base64url(part) for part in parts)


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
