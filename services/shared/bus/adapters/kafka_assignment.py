"""Which worker has which partitions: balanced, sticky, and cooperative. Pure.

A partition that is to move is withheld until its owner has said, by joining again without it, that it let go of it;
all others stay where they are and are not disturbed (the idea of Kafka's KIP-429).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says when it joins.

    Attributes:
        generation: The generation in which it was given its partitions; -1 if it has none.
        partitions: Those that it has.
    """

    generation: int = -1
    partitions: frozenset[int] = frozenset()

    def encode(self) -> bytes:
        """As the user data of a subscription."""
        return json.dumps({"generation": self.generation, "partitions": sorted(self.partitions)}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Claim:
        """Reads what `encode` wrote; what cannot be read claims nothing."""
        try:
            found = json.loads(data)
            return cls(int(found["generation"]), frozenset(int(partition) for partition in found["partitions"]))
        except (ValueError, TypeError, KeyError):
            return cls()


def assign(claims: Mapping[str, Claim], partitions: int) -> dict[str, frozenset[int]]:
    """Gives each member its partitions for the next generation.

    Args:
        claims: What each member has; at least one member.
        partitions: How many there are.

    Returns:
        The members' partitions: disjoint; those that move are nobody's until their owner joins again.
    """
    owners = _owners(claims, partitions)
    wanted = _balance(claims, owners, partitions)
    return {
        member: frozenset(partition for partition in its if owners.get(partition, member) == member)
        for member, its in wanted.items()
    }


def _owners(claims: Mapping[str, Claim], partitions: int) -> dict[int, str]:
    """Who has what. Of two that claim the same the one with the newer generation is right."""
    owners: dict[int, str] = {}
    for member, claim in sorted(claims.items(), key=lambda item: (item[1].generation, item[0])):
        for partition in claim.partitions:
            if 0 <= partition < partitions:
                owners[partition] = member
    return owners


def _balance(claims: Mapping[str, Claim], owners: Mapping[int, str], partitions: int) -> dict[str, set[int]]:
    owned: dict[str, list[int]] = {member: [] for member in claims}
    for partition, member in sorted(owners.items()):
        owned[member].append(partition)
    share, larger = divmod(partitions, len(claims))
    wanted: dict[str, set[int]] = {}
    for member in sorted(owned, key=lambda each: (-len(owned[each]), each)):
        limit = share
        if larger and len(owned[member]) > share:
            limit, larger = share + 1, larger - 1
        wanted[member] = set(owned[member][:limit])
    kept = set().union(*wanted.values())
    for partition in range(partitions):
        if partition not in kept:
            poorest = min(wanted, key=lambda each: (len(wanted[each]), each))
            wanted[poorest].add(partition)
    return wanted
