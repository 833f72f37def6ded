"""What policies tell: every decision is an event, with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Attribute: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Event:
    """One decision of a policy.

    Attributes:
        policy: The kind of policy: "circuit_breaker".
        name: Which one, as its maker named it: "/airis.metrics.v1.MetricsService/QueryMetrics".
        kind: What happened: "open", "rejected", "retry".
        reason: Why, in words: "5 failures in a row".
        attributes: Further facts, for programs.
    """

    policy: str
    name: str
    kind: str
    reason: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


_log = logging.getLogger(__name__)

Listener: TypeAlias = Callable[[Event], None]
"""Is called where the decision is made, so it must be quick. What it raises is logged, and changes nothing."""


class Events:
    """The events of one policy. An event that nobody listens to costs next to nothing.

    Args:
        policy: The kind of policy.
        name: Which one.
    """

    def __init__(self, policy: str, name: str) -> None:
        self._policy = policy
        self._name = name
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._to_all: tuple[Listener, ...] = ()

    def subscribe(self, listener: Listener, kinds: Iterable[str] | None = None) -> None:
        """Tells a listener of events from now on.

        Args:
            listener: Is called with each event.
            kinds: Which events; None: all.
        """
        if kinds is None:
            self._to_all = (*self._to_all, listener)
            return
        for kind in kinds:
            self._listeners[kind] = (*self._listeners.get(kind, ()), listener)

    def emit(self, kind: str, reason: str = "", **attributes: Attribute) -> None:
        """Tells those who listen."""
        listeners = self._listeners.get(kind)
        if listeners is None and not self._to_all:
            return
        event = Event(self._policy, self._name, kind, reason, attributes)
        for listener in (*(listeners or ()), *self._to_all):
            try:
                listener(event)
            except Exception:
                # A call must not fail, nor keep its place, because of who only listens.
                _log.exception("A listener failed at %s %s of %s.", self._policy, kind, self._name)
