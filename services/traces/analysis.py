"""Where the time of many traces goes, and how two traces differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from services.traces.model import Bottleneck, CriticalPath, Span, SpanDifference, TraceComparison
from services.traces.tree import Node, SpanTree, build_tree

_Operation = tuple[str, str]


def bottlenecks(paths: Iterable[CriticalPath]) -> list[Bottleneck]:
    """Sums up what critical paths are made of, by service and operation: the most time first.

    Equal times are in order of service and operation. The shares sum to 1 if there is any time at all.
    """
    self_times: dict[_Operation, int] = defaultdict(int)
    trace_counts: dict[_Operation, int] = defaultdict(int)
    for path in paths:
        on_path: set[_Operation] = set()
        for segment in path.segments:
            operation = (segment.service_name, segment.operation_name)
            self_times[operation] += segment.duration_ns
            on_path.add(operation)
        for operation in on_path:
            trace_counts[operation] += 1
    total = sum(self_times.values())
    return [
        Bottleneck(service, name, self_time, self_time / total if total else 0.0, trace_counts[service, name])
        for (service, name), self_time in sorted(self_times.items(), key=lambda item: (-item[1], item[0]))
    ]


def compare(base: Sequence[Span], other: Sequence[Span]) -> TraceComparison:
    """Compares the operations of two traces by self time: a span's time in which none of its children ran.

    Both are taken as their trees (see `tree`): clocks corrected, unfinished spans ending with their trace, each
    span once. Operations are ordered by the change of their self time, the largest first, then by name.

    Raises:
        ValueError: One of the traces has no spans.
    """
    base_tree, other_tree = build_tree(base), build_tree(other)
    base_figures, other_figures = _figures(base_tree), _figures(other_tree)
    differences = []
    for service, name in base_figures.keys() | other_figures.keys():
        base_count, base_self_time = base_figures.get((service, name), (0, 0))
        other_count, other_self_time = other_figures.get((service, name), (0, 0))
        differences.append(SpanDifference(service, name, base_count, other_count, base_self_time, other_self_time))
    differences.sort(
        key=lambda difference: (
            -abs(difference.other_self_time_ns - difference.base_self_time_ns),
            difference.service_name,
            difference.operation_name,
        )
    )
    return TraceComparison(
        differences=tuple(differences),
        base_duration_ns=base_tree.end_ns - base_tree.start_ns,
        other_duration_ns=other_tree.end_ns - other_tree.start_ns,
    )


def _figures(tree: SpanTree) -> dict[_Operation, tuple[int, int]]:
    """Returns the span count and the self time of each operation."""
    figures: dict[_Operation, tuple[int, int]] = {}
    for node in tree.nodes:
        operation = (node.span.service_name, node.span.operation_name)
        count, self_time = figures.get(operation, (0, 0))
        figures[operation] = (count + 1, self_time + _self_time(tree, node))
    return figures


def _self_time(tree: SpanTree, node: Node) -> int:
    children = (tree.nodes[index] for index in node.children)
    self_time = node.end_ns - node.start_ns
    covered_until = node.start_ns
    for start, end in sorted((child.start_ns, child.end_ns) for child in children):
        start, end = max(start, covered_until), min(end, node.end_ns)
        if start < end:
            self_time -= end - start
            covered_until = end
    return self_time
