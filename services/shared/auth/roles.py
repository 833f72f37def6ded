"""Roles: names for sets of permissions. A token carries the permissions; roles are for people who make tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from services.shared.errors import InvalidArgumentError

_VIEWER_VERB = "read"
_EDITED = ("metrics", "logs", "traces")
_OPERATED = "alerts"
BUILT_IN = ("viewer", "editor", "operator", "admin")


class Roles:
    """The roles that exist, and what they may do.

    Args:
        permissions: All that the contract knows: "metrics.read".
        custom: Further roles by name, each a list of permissions; a name must not be one of `BUILT_IN`.

    Raises:
        InvalidArgumentError: A custom role has a built-in's name, or names a permission that does not exist.
    """

    def __init__(self, permissions: Collection[str], custom: Mapping[str, Collection[str]] | None = None) -> None:
        known = frozenset(permissions)
        viewer = frozenset(name for name in known if name.endswith(f".{_VIEWER_VERB}"))
        editor = viewer | known.intersection(f"{signal}.write" for signal in _EDITED)
        operator = editor | known.intersection((f"{_OPERATED}.write",))
        self._roles = dict(zip(BUILT_IN, (viewer, editor, operator, known), strict=True))
        for name, wanted in (custom or {}).items():
            if name in self._roles:
                raise InvalidArgumentError(f"auth.roles: {name!r} is a built-in role; give yours another name.")
            unknown = sorted(set(wanted) - known)
            if unknown:
                raise InvalidArgumentError(
                    f"auth.roles.{name}: there is no permission {unknown[0]!r}; there are {', '.join(sorted(known))}."
                )
            self._roles[name] = frozenset(wanted)

    def permissions(self, roles: Iterable[str]) -> frozenset[str]:
        """What these roles may do together. Raises `InvalidArgumentError` for one that does not exist."""
        found: frozenset[str] = frozenset()
        for role in roles:
            if role not in self._roles:
                raise InvalidArgumentError(f"There is no role {role!r}; there are {', '.join(self._roles)}.")
            found |= self._roles[role]
        return found
