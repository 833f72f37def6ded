"""Page tokens: opaque, bound to the tenant, the method and the request that they continue."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from google.protobuf.message import Message

from services.shared.errors import FieldViolation, InvalidArgumentError
from services.shared.rpc.context import tenant


def encode_page_token(request: Message, cursor: list[Any]) -> str:
    """Makes the token of the next page.

    Args:
        request: The request; all its fields but the page's own are bound.
        cursor: Where to go on: JSON values.
    """
    text = json.dumps([_digest(request), cursor], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_page_token(request: Message, *types: type) -> list[Any] | None:
    """Reads the token of a request.

    Args:
        request: With a field `page_token`.
        types: The types of the cursor's values: int (of 64 bits, not negative) or str (can be written as UTF-8).

    Returns:
        The cursor; None for the first page. Its values may be any of their types: a token is no secret, and whoever
        knows how makes one.

    Raises:
        InvalidArgumentError: The token was not made for this request (INVALID_PAGE_TOKEN).
    """
    token: str = getattr(request, "page_token")  # noqa: B009
    if not token:
        return None
    try:
        digest, cursor = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        valid = (
            digest == _digest(request)
            and isinstance(cursor, list)
            and len(cursor) == len(types)
            and all(_is_value(value, kind) for value, kind in zip(cursor, types, strict=True))
        )
    except (ValueError, TypeError, RecursionError):
        valid = False
    if not valid:
        raise invalid_page_token()
    return list(cursor)


def invalid_page_token() -> InvalidArgumentError:
    """Says that a token was not made for its request."""
    return InvalidArgumentError(
        "page_token is not a next_page_token of this method with these parameters. Start without one.",
        reason="INVALID_PAGE_TOKEN",
        violations=(FieldViolation("page_token", "was not made for this request", "INVALID_PAGE_TOKEN"),),
    )


def _is_value(value: Any, kind: type) -> bool:
    if type(value) is not kind:
        return False
    if isinstance(value, int):
        return 0 <= value < 2**64
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(request: Message) -> str:
    bound = type(request)()
    bound.CopyFrom(request)
    for field in ("page_token", "page_size"):
        bound.ClearField(field)
    name = request.DESCRIPTOR.full_name
    subject = f"{tenant()}\0{name}\0".encode()
    return hashlib.sha256(subject + bound.SerializeToString(deterministic=True)).hexdigest()[:16]
