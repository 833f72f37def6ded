"""What can go wrong with a server."""

from __future__ import annotations


class ServerError(Exception):
    """A server cannot be had or does not run; the message says what to do, or ends with the tail of its log."""
