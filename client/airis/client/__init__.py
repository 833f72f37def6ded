"""The client of AIRIS EPM: metrics, logs, traces and alerts over gRPC.

    async with AirisClient("127.0.0.1:8080") as client:
        await client.metrics.ingest([metrics_pb2.Metric(name="cpu", value=0.5)])
        async for entry in client.logs.search('level >= ERROR AND "timed out"'):
            print(entry.message)

`SyncAirisClient` has the same methods without `await`. Names are loaded when they are first used, so that the
`airis` command starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airis.client.batching import Batcher
    from airis.client.client import AirisClient
    from airis.client.dialect import BatchRejection, ItemRejection
    from airis.client.discovery import Discovery
    from airis.client.errors import (
        AbortedError,
        AirisError,
        AlreadyExistsError,
        DeadlineExceededError,
        FailedPreconditionError,
        FieldViolation,
        InvalidArgumentError,
        NotFoundError,
        PermissionDeniedError,
        ResourceExhaustedError,
        UnavailableError,
        UnimplementedError,
    )
    from airis.client.session import IngestSession
    from airis.client.sync import SyncAirisClient
    from airis.client.unary import UnarySender

_HOMES = {
    "AbortedError": "errors",
    "AirisClient": "client",
    "AirisError": "errors",
    "AlreadyExistsError": "errors",
    "BatchRejection": "dialect",
    "Batcher": "batching",
    "DeadlineExceededError": "errors",
    "Discovery": "discovery",
    "FailedPreconditionError": "errors",
    "FieldViolation": "errors",
    "IngestSession": "session",
    "InvalidArgumentError": "errors",
    "ItemRejection": "dialect",
    "NotFoundError": "errors",
    "PermissionDeniedError": "errors",
    "ResourceExhaustedError": "errors",
    "SyncAirisClient": "sync",
    "UnarySender": "unary",
    "UnavailableError": "errors",
    "UnimplementedError": "errors",
}

__all__ = [
    "AbortedError",
    "AirisClient",
    "AirisError",
    "AlreadyExistsError",
    "BatchRejection",
    "Batcher",
    "DeadlineExceededError",
    "Discovery",
    "FailedPreconditionError",
    "FieldViolation",
    "IngestSession",
    "InvalidArgumentError",
    "ItemRejection",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "SyncAirisClient",
    "UnarySender",
    "UnavailableError",
    "UnimplementedError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
