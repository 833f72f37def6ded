"""The span tree of a trace, made whole and put on one clock.

Spans arrive in any order, from several clocks, some twice, some never. `build_tree` decides, the same way for
every order of the same spans:

Identity
  Two spans with one id: MALFORMED. If they are versions of the same operation (same service, operation,
  kind, start and parent) the one that ended last is kept, so that the final version of a span replaces an
  unfinished one. Otherwise both stay. A SERVER span that shares its id with a CLIENT span, as Zipkin's do,
  is the client's child. Children of the id belong to the member of their own service, else to that server,
  else to the first. A span that ends before it starts is MALFORMED and taken to end at its start.

Parents
  The first span is the earliest one without a parent id; if there is none, the earliest one whose parent
  cannot be used. All others at the top become children of the first span: further roots silently, spans
  whose parent is missing with MISSING_PARENT. A cycle is cut at its earliest span: MALFORMED. Such children
  are `adopted`: nothing is known of how they were called.

Clocks
  Each service has its own clock; the first span's counts. A span of its parent's service has its parent's
  offset, an adopted one has none. A span of another service has the offset of its parent or none, whichever
  makes it start earlier without being impossible. If both are impossible the span is moved: CLOCK_SKEW.
  Impossible is what only another clock can explain:

  - it starts before its parent (a CONSUMER, which may wait for its message: it ends before its parent
    starts);
  - it handles a call (a SERVER below a CLIENT) that was over before it started, though it would have fitted
    in. A failed call may have been given up: there the server must have failed too.

  It is moved to the middle of its parent, as the way there and back are likely to be equally long; if it
  does not fit, is not finished, or is a message (PRODUCER or CONSUMER are involved), to its parent's start.
  That a span ends after its parent is no skew: asynchronous work does.

Ends
  A span without an end is taken to end with its trace: at the last moment that any span starts or ends:
  UNFINISHED.

All of it takes O(n log n) for n spans, however deep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.traces.model import PathWarning, Span, SpanKind, StatusCode, WarningKind

_Order = tuple[int, bool, int, str, str, str, str, int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """A span in its tree, on the trace's clock.

    Args:
        start_ns: Corrected for clock skew.
        end_ns: Corrected likewise; that of the trace if the span is not finished.
        parent: The parent's index; None for the first span only.
        adopted: The parent was chosen for want of the real one.
        depth: 0 for the first span.
        children: Indices, in order of the tree's nodes.
    """

    span: Span
    start_ns: int
    end_ns: int
    parent: int | None
    adopted: bool
    depth: int
    children: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SpanTree:
    """A whole trace.

    Args:
        nodes: Every span once, by raw start time; equal times in a fixed order.
        first: The index of the first span, from which all others descend.
        start_ns: The first corrected start.
        end_ns: The last corrected end.
        warnings: By kind, then in order of the nodes; each once.
    """

    trace_id: str
    nodes: tuple[Node, ...]
    first: int
    start_ns: int
    end_ns: int
    warnings: tuple[PathWarning, ...]


def build_tree(spans: Sequence[Span]) -> SpanTree:
    """Makes the tree of the spans of one trace, in any order.

    Raises:
        ValueError: There are no spans.
    """
    if not spans:
        raise ValueError("a trace needs at least one span")
    warned: dict[PathWarning, None] = {}
    members = _distinct(spans, warned)
    parents, orphans = _find_parents(members, warned)
    cut = _cut_cycles(members, parents, warned)
    first = _first(parents, orphans, cut)

    adopted = [parent is None for parent in parents]
    adopted[first] = False
    children: list[list[int]] = [[] for _ in members]
    for index, parent in enumerate(parents):
        if index != first:
            children[first if parent is None else parent].append(index)
    above: list[int | None] = [None if i == first else first if p is None else p for i, p in enumerate(parents)]

    depths, offsets = _offsets(members, first, children, adopted, warned)
    starts = [span.start_ns + offset for span, offset in zip(members, offsets, strict=True)]
    ends = [
        None if span.end_ns is None else start + max(span.end_ns - span.start_ns, 0)
        for span, start in zip(members, starts, strict=True)
    ]
    last = max(max(starts), max((end for end in ends if end is not None), default=starts[0]))
    for span in members:
        if span.end_ns is None:
            warned[PathWarning(WarningKind.UNFINISHED, span.span_id)] = None
        elif span.end_ns < span.start_ns:
            warned[PathWarning(WarningKind.MALFORMED, span.span_id)] = None

    nodes = tuple(
        Node(
            span=span,
            start_ns=starts[index],
            end_ns=last if (end := ends[index]) is None else end,
            parent=above[index],
            adopted=adopted[index],
            depth=depths[index],
            children=tuple(children[index]),
        )
        for index, span in enumerate(members)
    )
    rank: dict[str, int] = {}
    for index, span in enumerate(members):
        rank.setdefault(span.span_id, index)
    warnings = tuple(sorted(warned, key=lambda warning: (warning.kind, rank[warning.span_id])))
    return SpanTree(members[0].trace_id, nodes, first, min(starts), last, warnings)


def _order(span: Span) -> _Order:
    return (
        span.start_ns,
        span.end_ns is None,
        -(span.end_ns or 0),
        span.span_id,
        span.parent_span_id,
        span.service_name,
        span.operation_name,
        span.kind,
        span.status_code,
    )


def _distinct(spans: Sequence[Span], warned: dict[PathWarning, None]) -> list[Span]:
    """Orders the spans and keeps one version of each."""
    kept: dict[tuple[str, str, str, str, int, int], Span] = {}
    seen: set[str] = set()
    for span in sorted(spans, key=_order):
        if span.span_id in seen:
            warned[PathWarning(WarningKind.MALFORMED, span.span_id)] = None
        seen.add(span.span_id)
        identity = (
            span.span_id,
            span.parent_span_id,
            span.service_name,
            span.operation_name,
            span.kind,
            span.start_ns,
        )
        # Of one start the order has the latest end first and the unfinished last.
        kept.setdefault(identity, span)
    return list(kept.values())


def _find_parents(members: list[Span], warned: dict[PathWarning, None]) -> tuple[list[int | None], set[int]]:
    """Returns each span's parent by index, and the spans whose parent is missing."""
    groups: dict[str, list[int]] = {}
    for index, span in enumerate(members):
        groups.setdefault(span.span_id, []).append(index)
    parents: list[int | None] = [None] * len(members)
    heirs: dict[str, dict[str, int]] = {}
    shared_servers: set[int] = set()
    for span_id, group in groups.items():
        if len(group) == 1:
            continue
        clients = [index for index in group if members[index].kind is SpanKind.CLIENT]
        servers = [
            index
            for index in group
            if clients
            and members[index].kind is SpanKind.SERVER
            and members[index].parent_span_id in (members[clients[0]].parent_span_id, span_id)
        ]
        for server in servers:
            parents[server] = clients[0]
            shared_servers.add(server)
        heir = servers[0] if servers else group[0]
        by_service = {members[heir].service_name: heir}
        for index in group:
            by_service.setdefault(members[index].service_name, index)
        heirs[span_id] = {**by_service, "": heir}

    orphans: set[int] = set()
    for index, span in enumerate(members):
        if not span.parent_span_id or index in shared_servers:
            continue
        group = groups.get(span.parent_span_id, [])
        if not group:
            orphans.add(index)
            warned[PathWarning(WarningKind.MISSING_PARENT, span.span_id)] = None
        elif len(group) == 1:
            parents[index] = group[0]
        else:
            heir_of = heirs[span.parent_span_id]
            parents[index] = heir_of.get(span.service_name, heir_of[""])
    return parents, orphans


def _cut_cycles(members: list[Span], parents: list[int | None], warned: dict[PathWarning, None]) -> set[int]:
    """Takes the parent from the earliest span of each cycle; returns those spans."""
    cut: set[int] = set()
    visit = [-1] * len(members)
    for origin in range(len(members)):
        trail: list[int] = []
        index: int | None = origin
        while index is not None and visit[index] == -1:
            visit[index] = origin
            trail.append(index)
            index = parents[index]
        if index is not None and visit[index] == origin:
            earliest = min(trail[trail.index(index) :])
            parents[earliest] = None
            cut.add(earliest)
            warned[PathWarning(WarningKind.MALFORMED, members[earliest].span_id)] = None
    return cut


def _first(parents: list[int | None], orphans: set[int], cut: set[int]) -> int:
    tops = [index for index, parent in enumerate(parents) if parent is None]
    return next((index for index in tops if index not in orphans and index not in cut), tops[0])


def _offsets(
    members: list[Span],
    first: int,
    children: list[list[int]],
    adopted: list[bool],
    warned: dict[PathWarning, None],
) -> tuple[list[int], list[int]]:
    """Returns each span's depth, and the nanoseconds to add to its times."""
    depths = [0] * len(members)
    offsets = [0] * len(members)
    queue = [first]
    for above in queue:  # grows while it is walked: parents come before their children
        parent = members[above]
        for index in children[above]:
            queue.append(index)
            depths[index] = depths[above] + 1
            child = members[index]
            if adopted[index]:
                continue
            if child.service_name == parent.service_name:
                offsets[index] = offsets[above]
                continue
            # On the parent's clock the child is offset by what both clocks have between them.
            candidates = sorted({0, offsets[above]})
            for offset in candidates:
                if not _impossible(parent, child, offset - offsets[above]):
                    offsets[index] = offset
                    break
            else:
                offsets[index] = offsets[above] + _correction(parent, child)
                warned[PathWarning(WarningKind.CLOCK_SKEW, child.span_id)] = None
    return depths, offsets


def _length(span: Span) -> int | None:
    return None if span.end_ns is None else max(span.end_ns - span.start_ns, 0)


def _fits(parent: Span, child: Span) -> bool:
    outer, inner = _length(parent), _length(child)
    return outer is not None and inner is not None and inner <= outer


def _impossible(parent: Span, child: Span, offset: int) -> bool:
    """Whether the child cannot have been where it is if its clock is behind its parent's by `offset`."""
    start = child.start_ns + offset
    length = _length(child)
    if start < parent.start_ns:
        waits = child.kind is SpanKind.CONSUMER and (length is None or start + length >= parent.start_ns)
        return not waits
    if parent.kind is not SpanKind.CLIENT or child.kind is not SpanKind.SERVER or not _fits(parent, child):
        return False
    given_up = parent.status_code is StatusCode.ERROR and child.status_code is not StatusCode.ERROR
    return start > parent.start_ns + (_length(parent) or 0) and not given_up


def _correction(parent: Span, child: Span) -> int:
    to_start = parent.start_ns - child.start_ns
    outer, inner = _length(parent), _length(child)
    messaging = parent.kind is SpanKind.PRODUCER or child.kind is SpanKind.CONSUMER
    if messaging or outer is None or inner is None or inner > outer:
        return to_start
    return to_start + (outer - inner) // 2
