"""PromQL, as Prometheus and VictoriaMetrics both answer it."""

from __future__ import annotations

import json
import time

from bench.payloads import METRIC_NAMES
from bench.peers.ask import ask_form
from bench.target import TargetError

# Whichever way a name is translated: a dot in a regular expression stands for any character, and a unit may follow.
# The label is nowhere; its value makes each question a new one, as VictoriaMetrics remembers for ten seconds which
# series an earlier one had found.
_COUNT = 'sum(count_over_time({{__name__=~"{name}(_.+)?", asked!="{now}"}}[30d]))'
_AHEAD_SECONDS = 12 * 3600


def points_stored(address: str) -> int:
    """How many points of `bench.payloads` there are.

    Raises:
        TargetError: It does not answer, or with something else.
    """
    return sum(_points(address, _COUNT.format(name=name, now=time.time_ns())) for name in METRIC_NAMES)


def _points(address: str, query: str) -> int:
    at = str(int(time.time()) + _AHEAD_SECONDS)
    answer = json.loads(ask_form(address, "/api/v1/query", {"query": query, "time": at, "nocache": "1"}))
    if answer.get("status") != "success" or answer.get("isPartial"):
        raise TargetError(f"{address} cannot count: {str(answer)[:300]}")
    result = answer["data"]["result"]
    return round(float(result[0]["value"][1])) if result else 0
