"""Server reflection that finds methods too, so that `grpcurl describe` takes a method's name."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class _Pool:
    """The default pool. Its C implementation knows no methods by name: a method is in the file of its service."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindMethodByName(f"{service}.{method}").containing_service.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def enable(service_names: list[str], server: Any) -> None:
    """Serves reflection for some services and for itself."""
    reflection.enable_server_reflection([*service_names, reflection.SERVICE_NAME], server, pool=_Pool())
