"""What a load does to others: the memory that the server takes meanwhile, and how long somebody else waits."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from bench import processes
from bench.load import LoadGenerator, LoadResult, Phase
from bench.load_lane import REQUEST_SECONDS
from bench.payloads import payloads
from bench.target import Endpoint

_LOOK_SECONDS = 2.0
# Few enough that they cost the server next to nothing.
_CALLS_A_SECOND, _IN_FLIGHT = 10.0, 10
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 600.0
_LEARN_SECONDS = 60.0


class MemoryWatch:
    """Looks every two seconds, and at the end, at the memory (PSS) of processes and all that they started.

    Args:
        pids: The processes.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._found: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            last = self._ended.wait(_LOOK_SECONDS)
            self._found.append(processes.memory(self._pids).pss)
            if last:
                return

    @property
    def most(self) -> float:
        """Bytes; not a number where the system does not tell."""
        return max((found for found in self._found if not math.isnan(found)), default=math.nan)


class Neighbour:
    """Somebody else, who sends ten calls a second, of one point each, of a thousand series that are known.

    Args:
        load: Of "calls"; nobody else uses it meanwhile.
        endpoint: Where the calls go.
    """

    def __init__(self, load: LoadGenerator, endpoint: Endpoint) -> None:
        self._load, self._endpoint = load, endpoint
        self._next = 0

    def learn(self) -> LoadResult:
        """Sends a point of each series: then all are known."""
        return self._send(_LEARN_SECONDS, requests=payloads("calls", 0).period)

    def alone(self, seconds: float) -> LoadResult:
        """Sends for a while."""
        return self._send(seconds, _CALLS_A_SECOND)

    @contextlib.contextmanager
    def beside(self, load_began: threading.Event) -> Iterator[list[LoadResult]]:
        """Sends from an event on until the end of the block, for a second at least; what became of it is in the list
        afterwards.

        Raises:
            ConnectionError: At the end: the endpoint cannot be reached.
        """
        found: list[LoadResult] = []
        sends = threading.Event()
        least = 0.0

        def begin() -> None:
            nonlocal least
            least = time.monotonic() + _LEAST_SECONDS
            sends.set()

        def send() -> None:
            load_began.wait()
            if not never_began:
                found.append(self._send(_MOST_SECONDS, _CALLS_A_SECOND, began=begin))

        never_began = False
        with ThreadPoolExecutor(1) as thread:
            sending = thread.submit(send)
            # One that cannot send is waited for no longer.
            sending.add_done_callback(lambda _: sends.set())
            try:
                yield found
            finally:
                never_began = not load_began.is_set()
                load_began.set()
                sends.wait()
                time.sleep(max(0.0, least - time.monotonic()))
                self._load.end_phase()
        sending.result()

    def _send(
        self,
        seconds: float,
        rate: float | None = None,
        requests: int | None = None,
        began: Callable[[], None] = lambda: None,
    ) -> LoadResult:
        result = self._load.run(Phase(self._endpoint, self._next, _IN_FLIGHT, seconds, rate, requests), began)
        self._next = result.next_number
        return result


def p95_ms(results: Sequence[LoadResult]) -> float:
    """Of the acknowledgements of calls of one point; one that did not come counts as the longest wait there is."""
    latencies = [latency for result in results for latency in result.latencies]
    missing = sum(result.refused + result.unknown for result in results)
    waited = [*latencies, *[REQUEST_SECONDS] * missing]
    return float(np.quantile(waited, 0.95)) * 1e3 if waited else math.nan
