"""What became of the batches of `overload_traffic`: each that was acknowledged is stored, as often as it was sent."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from overload_load import Call

from bench.airis_audit import audit
from bench.ingest import faults_of
from bench.overload_traffic import BATCH, STORED_AS
from bench.target import TargetError


def items(calls: Iterable[Call], further: int = 0) -> dict[str, int]:
    """How many items are acknowledged, and of how many it is unknown whether they are stored.

    Args:
        calls: Each with a batch.
        further: Items that were acknowledged besides.
    """
    codes = Counter(call.code for call in calls)
    unknown = codes.total() - codes["OK"] - codes["RESOURCE_EXHAUSTED"]
    return {"acknowledged": BATCH * codes["OK"] + further, "unknown": BATCH * unknown}


def lost_or_doubled(data_dir: Path, service: str, sent: Mapping[str, Any]) -> list[str]:
    """What is wrong with what a service stored that has stopped.

    Args:
        data_dir: Its platform's.
        service: "metrics", "logs" or "traces".
        sent: Its `items`.
    """
    try:
        counts = audit(data_dir, service, STORED_AS[service]).counts
    except TargetError as error:
        return [f"{service}: not counted: {error}"]
    # The same batch is sent again and again: only how often each item is stored says something.
    stored = {what: count for what, count in counts.items() if not what.startswith("distinct")}
    return [f"{service}: {fault}" for fault in faults_of(sent["acknowledged"], sent["unknown"], stored)]
