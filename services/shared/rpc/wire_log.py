"""What the servers of HTTP and gRPC log: failures of ours, and nothing that a caller sent."""

from __future__ import annotations

import logging

from aiohttp import ClientConnectionResetError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from grpc._cython.cygrpc import ExecuteBatchError

_HTTP = "aiohttp.server"
_GRPC = "grpc._cython.cygrpc"
_NO_TEXT = "Invalid encoding on"
_MISTAKES = (HttpProcessingError, RequestPayloadError, ClientConnectionResetError)


class _CallersMistakes(logging.Filter):
    """Leaves out requests that are no HTTP, bodies that are not what they should be, metadata that is no text, and
    callers who do not wait for an answer.

    Wrong requests are answered as any other. Their records quote them, tokens included, and anybody could fill the log
    with them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _MISTAKES):
            return False
        if isinstance(error, ExecuteBatchError):
            # The caller has left, or gRPC refuses the answer: it does not tell. One line that names the method.
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
            record.exc_info = None
        return not str(record.msg).startswith(_NO_TEXT)


_FILTER = _CallersMistakes()


def keep_requests_out_of_logs() -> None:
    """To be called once a process, or more often."""
    for name in (_HTTP, _GRPC):
        logging.getLogger(name).addFilter(_FILTER)
