"""The critical path: the chain of spans and self times that determines a trace's duration.

The trace's duration is the time from its first start to its last end, on the corrected clock (see `tree`).
Every moment of it belongs to exactly one span. Which one is found by walking back from the end.

Within a span (entered at the time t at which what follows waited for it)
  The child that finished last by t, and started before t, is what the span waited for: the path leads
  through that child, then goes on in the span at the child's start. Time up to a child's end that no child
  accounts for is the span's own. Children that were still running at t held nothing up: a child that
  overlaps the start of its successor did not cause it. Back at its start, the span hands over to its
  parent.

      parent  |----------------------------|        path: parent 0-5, a 5-12, parent 12-14,
      a            |------|                               c 14-25, parent 25-29
      b            |---------|                      (b was still running when c started)
      c                     |----------|
              0    5     12  14        25  29

Children that outlive their parent
  The parent ended without them, so it did not wait: asynchronous work. Within their parent they are not on
  the path. The exception is an end by another clock, which proves nothing: a child of another service, or
  the SERVER of a CLIENT, that was running when its parent ended is taken to end with it, unless the parent
  is a PRODUCER or the child a CONSUMER.

The trace
  The walk begins at the last end, in the span that ends there, so asynchronous work that ends the trace is
  on the path. Such a span was started by its parent, so the walk goes on in the parent at the span's start,
  even if the parent is over by then: the time between the parent (or its last child) and the span it
  started is the parent's, as a gap between two of its children is. So a stretch may lie after its span's
  end, but only where something that the span started had not begun. Further roots count as started by the
  first span.

      request   |------------|                      path: request 0-3, send 3-9, handle 9-20
      send         |--|                             (the message waited from 6 to 9)
      handle               |-----------|
                0  3  6    9 12        20

  Where no parent began before the span (the first span is not the first to start), the walk goes on in the
  span that, of all that began before, ends last.

Ties: the later end, then a finished span before an unfinished one, then the one nearer to the first span,
then the earlier start, then the order of the tree's nodes. Spans of no duration take no time and so have no
segment.

It takes O(n log n) for n spans and does not recurse: each span is entered a bounded number of times, and the
children of each are looked through once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.traces.model import CriticalPath, PathSegment, Span, SpanKind
from services.traces.tree import Node, SpanTree, build_tree


def critical_path(spans: Sequence[Span]) -> CriticalPath:
    """Returns the critical path of the spans of one trace, given in any order.

    Raises:
        ValueError: There are no spans.
    """
    return critical_path_of(build_tree(spans))


def critical_path_of(tree: SpanTree) -> CriticalPath:
    """Returns the critical path of a trace whose tree is there already."""
    walk = _Walk(tree)
    walk.back_from_the_end()
    segments = []
    for index, start, end in reversed(walk.stretches):
        span = tree.nodes[index].span
        segments.append(PathSegment(span.span_id, span.service_name, span.operation_name, start, end - start))
    return CriticalPath(
        trace_id=tree.trace_id,
        start_ns=tree.start_ns,
        duration_ns=tree.end_ns - tree.start_ns,
        segments=tuple(segments),
        warnings=tree.warnings,
    )


@dataclass(slots=True)
class _Visit:
    """A span that the walk is in.

    `entered` is where it was entered, `floor` is where it is left, and `waited_for` says whether its parent
    waited for it to end at `entered`, so that children that end a little later by another clock did too.
    """

    index: int
    entered: int
    floor: int
    waited_for: bool


class _Walk:
    def __init__(self, tree: SpanTree) -> None:
        self.tree = tree
        self.stretches: list[tuple[int, int, int]] = []
        nodes = tree.nodes
        order = sorted(range(len(nodes)), key=lambda index: _last_first(nodes[index], index))
        self._by_end = order
        self._next_by_end = 0
        self._children: list[list[int]] = [[] for _ in nodes]
        for index in order:
            parent = nodes[index].parent
            if parent is not None:
                self._children[parent].append(index)
        # Time only goes back, so a child once passed over is never wanted again.
        self._next_child = [0] * len(nodes)

    def back_from_the_end(self) -> None:
        time = self.tree.end_ns
        nodes = self.tree.nodes
        while time > self.tree.start_ns:
            index: int | None = self._ends_last_of_those_begun_before(time)
            while index is not None and nodes[index].start_ns < time:
                time = self._through(index, time)
                index = nodes[index].parent

    def _ends_last_of_those_begun_before(self, time: int) -> int:
        while self.tree.nodes[self._by_end[self._next_by_end]].start_ns >= time:
            self._next_by_end += 1
        return self._by_end[self._next_by_end]

    def _through(self, index: int, time: int) -> int:
        """Walks from `time` back to the start of the span, which it returns."""
        nodes = self.tree.nodes
        stack = [_Visit(index, time, nodes[index].start_ns, waited_for=False)]
        while stack:
            visit = stack[-1]
            found = self._finished_last(visit, time)
            if found is None:
                self._take(visit.index, visit.floor, time)
                time = visit.floor
                stack.pop()
                continue
            child, end = found
            self._take(visit.index, end, time)
            time = end
            stack.append(_Visit(child, end, max(nodes[child].start_ns, visit.floor), waited_for=True))
        return time

    def _finished_last(self, visit: _Visit, time: int) -> tuple[int, int] | None:
        """Returns the child that finished last by `time`, and when, within the visit."""
        nodes = self.tree.nodes
        children = self._children[visit.index]
        for position in range(self._next_child[visit.index], len(children)):
            child = nodes[children[position]]
            if child.end_ns <= visit.floor:
                # Later ones end no later. They may yet be wanted by a visit with a lower floor.
                self._next_child[visit.index] = position
                return None
            clipped = visit.waited_for and _waited_for(nodes[visit.index], child)
            end = min(child.end_ns, visit.entered) if clipped else child.end_ns
            if child.start_ns < time and end <= time:
                self._next_child[visit.index] = position + 1
                return children[position], end
        self._next_child[visit.index] = len(children)
        return None

    def _take(self, index: int, start: int, end: int) -> None:
        if start >= end:
            return
        if self.stretches and self.stretches[-1][0] == index:
            end = self.stretches.pop()[2]
        self.stretches.append((index, start, end))


def _last_first(node: Node, index: int) -> tuple[int, bool, int, int, int]:
    return (-node.end_ns, node.span.end_ns is None, node.depth, node.start_ns, index)


def _waited_for(parent: Node, child: Node) -> bool:
    """Whether the parent may have waited for the child to end, if the child began before."""
    if child.end_ns <= parent.end_ns:
        return True
    if child.start_ns >= parent.end_ns:
        return False
    above, below = parent.span, child.span
    if above.kind is SpanKind.PRODUCER or below.kind is SpanKind.CONSUMER:
        return False
    if above.kind is SpanKind.CLIENT and below.kind is SpanKind.SERVER:
        return True
    return above.service_name != below.service_name
