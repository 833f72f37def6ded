"""Limits of all that is sent and taken."""

from __future__ import annotations

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""Bytes of the longest message."""
