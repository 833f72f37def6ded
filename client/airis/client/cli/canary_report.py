"""What `airis canary` prints: a line for each signal now and then, and a table in the end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

from airis.client.canary.latencies import Latencies
from airis.client.canary.objectives import objective
from airis.client.canary.record import Counts, Record
from airis.client.cli.output import Output, count, stderr_console
from rich.text import Text

_QUANTILES = (0.5, 0.95, 0.99)
_FINDINGS = ("skipped", "late", "missing", "doubled", "unverified")


class CanaryReport:
    """Prints.

    Args:
        out: Where results go.
    """

    def __init__(self, out: Output) -> None:
        self._out = out

    def begin(self, target: str, signals: Sequence[str], interval: float, otlp: str, port: int) -> None:
        """Says what is done."""
        if self._out.is_json:
            return
        places = [f"http://127.0.0.1:{port}/metrics"] if port else []
        places += [f"OTLP to {otlp}"] if otlp else []
        told = f"; its metrics: {', '.join(places)}" if places else ""
        self._out.text(f"The canary sings to {target} each {interval:g} s: {', '.join(signals)}{told}. Ctrl-C ends it.")

    def note(self, signal: str, text: str) -> None:
        """Says what is no result."""
        stderr_console().print(f"airis: {signal}: {text}", markup=False)

    def interval(self, signal: str, counts: Counts) -> None:
        """What happened since the last report."""
        if self._out.is_json:
            self._write({"kind": "interval", **_document(signal, counts)})
            return
        text = Text(f"{time.strftime('%H:%M:%S')} {signal:<8}")
        good = counts.rounds - counts.failed
        text.append(f"{good:>5} ok")
        if counts.failed:
            text.append(f", {counts.failed} failed", style="red")
        for what in _FINDINGS:
            if found := getattr(counts, what):
                text.append(f", {found} {what}", style="bold red")
        text.append(
            f"   write p95 {_seconds(counts.write, 0.95)}   read p95 {_seconds(counts.read, 0.95)}"
            f"   visible p50 {_seconds(counts.visible, 0.5)} p95 {_seconds(counts.visible, 0.95)}",
            style="dim",
        )
        for (operation, code, message), number in counts.errors.most_common(2):
            text.append(f"\n         {number} × {operation}: {code}: {message}", style="red")
        self._out.text(text)

    def end(self, records: Sequence[Record], seconds: float) -> bool:
        """The summary. Whether all was as promised."""
        misses = {record.signal: objective(record.signal).misses(record.total) for record in records}
        well = not any(misses.values()) and all(record.total.rounds for record in records)
        if self._out.is_json:
            signals = [
                {**_document(record.signal, record.total), "misses": misses[record.signal]} for record in records
            ]
            self._write({"kind": "summary", "seconds": round(seconds, 3), "ok": well, "signals": signals})
            return well
        self._out.table(
            [
                "signal", ">rounds", ">failed", ">availability", ">budget used", ">missing", ">doubled", ">late",
                ">write p95", ">read p95", ">visible p50", ">p95", ">p99",
            ],
            [_row(record) for record in records],
            "There was no round.",
        )  # fmt: skip
        for record in records:
            for (operation, code, message), number in record.total.errors.most_common(5):
                self._out.text(f"{record.signal}: {number} × {operation}: {code}: {message}")
        for signal, missed in misses.items():
            for miss in missed:
                self._out.text(Text(f"{signal}: {miss}", style="red"))
        told = "as the contract promises" if well else "not as the contract promises"
        self._out.text(f"{count(round(seconds), 'second')}: {told}.")
        return well

    def _write(self, document: dict[str, Any]) -> None:
        self._out.console.file.write(json.dumps(document, ensure_ascii=False) + "\n")
        self._out.console.file.flush()


def _row(record: Record) -> list[str]:
    counts, promised = record.total, objective(record.signal)
    return [
        record.signal,
        f"{counts.rounds:,}",
        f"{counts.failed:,}",
        f"{counts.availability:.3%} of {promised.availability:.1%}",
        f"{promised.burn(counts.availability):.0%}",
        *(f"{getattr(counts, what):,}" for what in ("missing", "doubled", "late")),
        f"{_seconds(counts.write, 0.95)} of {promised.write_p95 * 1000:.0f}",
        f"{_seconds(counts.read, 0.95)} of {promised.read_p95 * 1000:.0f}",
        *(_seconds(counts.visible, share) for share in _QUANTILES),
    ]


def _document(signal: str, counts: Counts) -> dict[str, Any]:
    promised = objective(signal)
    return {
        "signal": signal,
        "rounds": counts.rounds,
        "failed": counts.failed,
        **{what: getattr(counts, what) for what in _FINDINGS},
        "availability": counts.availability,
        "objective": promised.availability,
        "budgetUsed": promised.burn(counts.availability),
        "calls": counts.calls,
        "failedCalls": counts.failed_calls,
        "errors": [
            {"operation": operation, "code": code, "message": message, "count": number}
            for (operation, code, message), number in counts.errors.most_common()
        ],
        **{
            f"{name}Seconds": {f"p{share * 100:g}": _number(latencies.quantile(share)) for share in _QUANTILES}
            for name, latencies in (("write", counts.write), ("read", counts.read), ("visible", counts.visible))
        },
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _seconds(latencies: Latencies, share: float) -> str:
    found = latencies.quantile(share)
    return "-" if math.isnan(found) else f"{found * 1000:.0f} ms"
