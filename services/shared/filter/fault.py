"""How the filter language says that a filter is wrong."""

from __future__ import annotations

from services.shared.errors import FieldViolation, InvalidArgumentError

_REASON = "INVALID_FILTER"


def fault(position: int | None, sentence: str) -> InvalidArgumentError:
    """The error for a filter that is wrong at `position` (1-based, in code points; None: as a whole)."""
    message = f"filter: {sentence}" if position is None else f"filter, character {position}: {sentence}"
    return InvalidArgumentError(message, reason=_REASON, violations=(FieldViolation("filter", message, _REASON),))


def excerpt(text: str, limit: int = 40) -> str:
    """`text` in double quotes, cut to `limit` characters, fit for one line of an error."""
    shown = text if len(text) <= limit else text[:limit] + "…"
    return '"' + "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown) + '"'
