"""What it costs to turn OTLP bytes into checked columns, beside protobuf's own parser on the same bytes.

Run: `python -m bench.decode [--signals logs traces] [--joined 1 10] [--requests 20] [--rounds 15]`. The requests are
those of `bench.payloads`; `--joined N` puts N of them into one, as a service does with requests that wait. The steps
take turns on each request, and of all rounds the median counts, so that a busy machine changes the ratios little. CPU
time only.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.payloads import ITEMS, base_before, payloads
from services.logs import convert as logs
from services.logs.config import LogsConfig
from services.logs.ingest import Checker as LogChecker
from services.traces import convert as traces
from services.traces.config import TracesConfig
from services.traces.ingest import Checker as SpanChecker

_LARGE = 2**18


def _steps(signal: str) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any], Callable[[Any, int], Any]]:
    """Protobuf's parser, our decoder, and our checks."""
    if signal == "logs":
        checker: Any = LogChecker(LogsConfig(max_items=_LARGE))
        module: Any = logs
        message = logs.logs_service_pb2.ExportLogsServiceRequest
    else:
        checker = SpanChecker(TracesConfig(max_items=_LARGE))
        module = traces
        message = traces.trace_service_pb2.ExportTraceServiceRequest
    return (
        message.FromString,
        lambda payload: module.read(module.OTLP, [payload]).items,
        lambda items, now_ns: checker.check(items, "default", now_ns),
    )


def _measure(signal: str, joined: int, requests: int, rounds: int) -> str:
    now_ns = time.time_ns()
    source = payloads(signal, base_before(now_ns))
    bodies = [
        b"".join(source.request(n * joined + k) for k in range(joined)) for n in range(max(requests // joined, 1))
    ]
    parse, decode, check = _steps(signal)
    taken: list[list[float]] = []
    gc.disable()
    for _ in range(rounds):
        spent = [0, 0, 0]
        for body in bodies:
            began = time.process_time_ns()
            parse(body)
            parsed = time.process_time_ns()
            items = decode(body)
            decoded = time.process_time_ns()
            checked = check(items, now_ns)
            ended = time.process_time_ns()
            if checked.rejected or items.count != ITEMS[signal] * joined:
                raise RuntimeError(f"{signal}: {len(checked.rejected)} of {items.count} items were refused.")
            for place, part in enumerate((parsed - began, decoded - parsed, ended - decoded)):
                spent[place] += part
        taken.append([part / len(bodies) / joined / ITEMS[signal] / 1000 for part in spent])
    gc.enable()
    upb, decoding, checking = (statistics.median(column) for column in zip(*taken, strict=True))
    ratio = statistics.median((decoding + checking) / parsing for parsing, decoding, checking in taken)
    return (
        f"{signal:7} {joined:3} joined: upb {upb:5.2f}, decode {decoding:5.2f}, check {checking:5.2f} us an item; "
        f"decode {decoding / upb:5.1f}, check {checking / upb:5.1f}, together {ratio:5.1f} times upb"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints a line for each signal and number of requests in one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signals", nargs="+", choices=("logs", "traces"), default=("logs", "traces"))
    parser.add_argument("--joined", nargs="+", type=int, default=(1, 10))
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args(arguments)
    for signal in chosen.signals:
        for joined in chosen.joined:
            print(_measure(signal, joined, chosen.requests, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
