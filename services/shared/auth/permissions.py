"""All permissions that exist: those that the contract asks for."""

from __future__ import annotations

from functools import cache

from airis.alerts.v1 import alerts_pb2
from airis.logs.v1 import logs_pb2
from airis.metrics.v1 import metrics_pb2
from airis.traces.v1 import traces_pb2

from resilience.contract import policies

_FILES = (metrics_pb2.DESCRIPTOR, logs_pb2.DESCRIPTOR, traces_pb2.DESCRIPTOR, alerts_pb2.DESCRIPTOR)


@cache
def contract_permissions() -> frozenset[str]:
    """Every permission that an RPC needs: "metrics.read"."""
    return frozenset(policy.permission for policy in policies(_FILES))
