"""The `authorization` of a call."""

from __future__ import annotations

from services.shared.errors import UnauthenticatedError

MAX_TOKEN_BYTES = 8 * 1024
_SCHEME = "bearer"


def bearer_token(authorization: str | bytes | None) -> str | None:
    """The token of an `authorization` header or metadata value; None if there is none.

    Raises:
        UnauthenticatedError: It is of another scheme, too long, or no text.
    """
    if not authorization:
        return None
    if len(authorization) > MAX_TOKEN_BYTES + len(_SCHEME) + 1:
        raise too_long()
    if isinstance(authorization, bytes):
        try:
            authorization = authorization.decode("ascii")
        except UnicodeDecodeError:
            raise UnauthenticatedError("The authorization is no ASCII text; send `Bearer <token>`.") from None
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME or not token:
        # What it holds may be a secret of another kind: it is not repeated.
        raise UnauthenticatedError("The authorization is not of the form `Bearer <token>`.")
    return token


def too_long() -> UnauthenticatedError:
    """The error for a token that is not even looked at."""
    return UnauthenticatedError(f"The token is longer than {MAX_TOKEN_BYTES} bytes; no token of AIRIS is.")
