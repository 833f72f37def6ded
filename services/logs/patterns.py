"""Templates of messages: what many of them have in common, `<*>` where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from drain3.drain import Drain

from services.logs.model import Level, Pattern, Sample
from services.shared.errors import DeadlineExceededError

MOST_COMPARED_WORDS = 20_000
"""Words of templates with which a message is compared: of messages of 20 words, a thousand templates."""

_MAX_TEMPLATES = 5000
_MAX_SERVICES = 100


@dataclass(slots=True)
class _Members:
    example: str
    count: int = 0
    max_level: Level = Level.DEBUG
    services: set[str] = field(default_factory=set)


class _Tree(Drain):  # type: ignore[misc]
    """Compares a message with some templates only where very many have its first word and as many words."""

    def fast_match(self, cluster_ids: list[int], tokens: list[str], sim_th: float, include_params: bool) -> Any:
        most = max(MOST_COMPARED_WORDS // len(tokens), 1)
        found = super().fast_match(cluster_ids[-most:], tokens, sim_th, include_params)
        # Of a few the order stays: the first of two that match equally well is taken.
        if found is not None and len(cluster_ids) > most // 2:
            # The last ones are those that were made or matched last: what is frequent stays among them.
            cluster_ids.remove(found.cluster_id)
            cluster_ids.append(found.cluster_id)
        return found


def mine(samples: Sequence[Sample], is_over: Callable[[], bool] = lambda: False) -> list[Pattern]:
    """Groups messages by template, the most frequent first; equal ones by template.

    Args:
        samples: Messages of bounded length: the work grows with their words.
        is_over: Whether nobody waits for the answer any more; asked before each message, in this thread.

    Raises:
        DeadlineExceededError: It is over.
    """
    tree = _Tree(depth=4, sim_th=0.5, max_children=100, max_clusters=_MAX_TEMPLATES)
    members: dict[int, _Members] = {}
    clusters: dict[int, Any] = {}
    for sample in samples:
        if is_over():
            raise DeadlineExceededError("The patterns took longer than the deadline. Ask for fewer entries.")
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
