"""How long a call may take: `airis.policy.v1.policy` in the descriptors says so for every RPC."""

from __future__ import annotations

import math

from google.protobuf.descriptor import ServiceDescriptor

from resilience.contract import method_policy


class Deadlines:
    """The deadlines of one service's RPCs.

    Args:
        service: Its descriptor.

    Raises:
        LookupError: An RPC has no policy: the contract is incomplete.
    """

    def __init__(self, service: ServiceDescriptor) -> None:
        self._seconds = {method.name: method_policy(method).deadline for method in service.methods}

    def seconds(self, method: str, override: float | None = None) -> float | None:
        """Seconds that a call may take; None: no limit.

        Args:
            method: The RPC's name: "QueryMetrics".
            override: The caller's own limit in seconds; `math.inf`: no limit; None: the contract's.
        """
        if override is None:
            return self._seconds[method]
        return None if math.isinf(override) else override
