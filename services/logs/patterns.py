"""Templates of messages: what many of them have in common, `<*>` where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from drain3.drain import Drain

from services.logs.model import Level, Pattern, Sample

_MAX_TEMPLATES = 5000
_MAX_SERVICES = 100


@dataclass(slots=True)
class _Members:
    example: str
    count: int = 0
    max_level: Level = Level.DEBUG
    services: set[str] = field(default_factory=set)


def mine(samples: Sequence[Sample]) -> list[Pattern]:
    """Groups messages by template, the most frequent first; equal ones by template.

    Args:
        samples: Messages of bounded length: the work grows with their words.
    """
    tree = Drain(depth=4, sim_th=0.5, max_children=100, max_clusters=_MAX_TEMPLATES)
    members: dict[int, _Members] = {}
    clusters: dict[int, Any] = {}
    for sample in samples:
        cluster, _ = tree.add_log_message(sample.message)
        found = members.setdefault(cluster.cluster_id, _Members(sample.message))
        found.count += 1
        found.max_level = max(found.max_level, sample.level)
        if len(found.services) < _MAX_SERVICES:
            found.services.add(sample.service)
        clusters[cluster.cluster_id] = cluster
    found_patterns = [
        Pattern(clusters[number].get_template(), each.count, each.example, each.max_level, sorted(each.services - {""}))
        for number, each in members.items()
    ]
    return sorted(found_patterns, key=lambda pattern: (-pattern.count, pattern.template))
