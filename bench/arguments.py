"""What several programs of this folder take as arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Reads names with commas between them; they come in the order of the known ones."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return [name for name in known if name in names]

    return read


def port_offsets(text: str) -> range:
    """Reads FIRST-LAST: what may be added to each port."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1, 10)
