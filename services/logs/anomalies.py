"""Unusual numbers of entries: how far a step is from the median of its service and level, in robust deviations.

The deviation is 1.4826 times the median absolute deviation, which equals the standard deviation of normal data and is
not moved by the anomalies themselves. Counts of a steady source scatter by the square root of their mean, so less
than that, or less than one entry, is never unusual.
"""

from __future__ import annotations

import numpy as np

from services.logs.model import Anomaly, Counts, Level

THRESHOLD = 3.5
"""Robust deviations beyond which a step is an anomaly, after Iglewicz and Hoaglin."""

_DEVIATIONS = 1.4826


def find(counts: Counts, start: int, end: int) -> list[Anomaly]:
    """The anomalies, the strongest first, then by time.

    Args:
        counts: By service and level.
        start: The start of the first step, in nanoseconds.
        end: The end of the last one. Steps without entries count as 0.
    """
    found: list[Anomaly] = []
    for group in counts.groups:
        steps = np.zeros((end - start) // counts.step)
        for at, count in group.buckets:
            steps[(at - start) // counts.step] = count
        median = float(np.median(steps))
        deviation = _DEVIATIONS * float(np.median(np.abs(steps - median)))
        scores = (steps - median) / max(deviation, median**0.5, 1.0)
        for index in np.flatnonzero(np.abs(scores) > THRESHOLD).tolist():
            found.append(
                Anomaly(
                    start + index * counts.step,
                    group.fields["service"],
                    Level[group.fields["level"]],
                    int(steps[index]),
                    median,
                    float(scores[index]),
                )
            )
    return sorted(found, key=lambda each: (-abs(each.score), each.timestamp, each.service, each.level))
