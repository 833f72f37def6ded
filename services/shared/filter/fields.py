"""Which fields a filter may name: a store or a query declares them once, as a `Schema`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What a field holds, and so which operators and values it takes."""

    STRING = "a string"
    NUMBER = "a number"
    INTEGER = "a whole number"
    BOOLEAN = "true or false"
    DURATION = "a duration"
    TIMESTAMP = "a time"
    ENUM = "one of a list of names"
    ID = "a hexadecimal id"
    LABEL_MAP = "a map of strings"
    TYPED_MAP = "a map of typed values"


@dataclass(frozen=True, slots=True)
class TypedColumns:
    """Where a TYPED_MAP lives: one map a type. `rest` holds what fits none; only its keys can be asked for."""

    string: str
    int64: str
    double: str
    boolean: str
    rest: str | None = None

    @classmethod
    def of(cls, prefix: str, *, rest: str | None = None) -> TypedColumns:
        """The columns named `{prefix}_string`, `_int64`, `_double` and `_bool`."""
        return cls(f"{prefix}_string", f"{prefix}_int64", f"{prefix}_double", f"{prefix}_bool", rest)


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Args:
        name: As filters and the records of the matcher call it.
        kind: What it holds.
        column: The store's own expression for it. Trusted: it becomes part of the query. Empty: the name.
        columns: The columns of a TYPED_MAP.
        enum: ENUM only: names in ascending order with the numbers that they are stored as; see `enum_by_name`.
        enum_by_name: The store keeps the name, not the number.
        unit_nanoseconds: DURATION only: how many nanoseconds the stored number counts in; 1e6: it is milliseconds.
        nullable: The store keeps null for an absent value, rather than zero or an empty text.
        text_index: The column has the index of `clickhouse.TEXT_INDEX`.
    """

    name: str
    kind: Kind
    column: str = ""
    columns: TypedColumns | None = None
    enum: tuple[tuple[str, int], ...] = ()
    enum_by_name: bool = False
    unit_nanoseconds: int = 1
    nullable: bool = False
    text_index: bool = False

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, "column", self.name)
        if self.kind is Kind.TYPED_MAP and self.columns is None:
            object.__setattr__(self, "columns", TypedColumns.of(self.name))
        if (self.kind is Kind.ENUM) != bool(self.enum):
            raise ValueError(f"field {self.name}: ENUM, and only it, needs the names")

    @property
    def is_map(self) -> bool:
        """Whether it is asked for by key."""
        return self.kind in (Kind.LABEL_MAP, Kind.TYPED_MAP)

    @property
    def typed_columns(self) -> TypedColumns:
        """The columns of a TYPED_MAP. Raises: TypeError for another kind."""
        if self.columns is None:
            raise TypeError(f"field {self.name} is {self.kind.value}")
        return self.columns


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields that a filter may name.

    Args:
        fields: All of them; build it with `Schema.of`.
        full_text: The fields that bare words and phrases are looked for in; empty: they are refused.
        aliases: Other names of fields, as {"severity": "level"}. An alias may point at a key of a map:
            {"host": "labels.host"}.
        bare_keys: The map whose key an unknown bare name is; None: it is refused. With "labels",
            `host = "a"` means `labels.host = "a"`, and `k8s.pod = "b"` means `labels."k8s.pod" = "b"`.
    """

    fields: Mapping[str, Field]
    full_text: tuple[Field, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    bare_keys: Field | None = None

    @classmethod
    def of(
        cls,
        fields: Iterable[Field],
        *,
        full_text: Iterable[str] = (),
        aliases: Mapping[str, str] | None = None,
        bare_keys: str | None = None,
    ) -> Schema:
        """A schema of `fields`; the other arguments name them. Raises: KeyError for a name that is none."""
        by_name = {each.name: each for each in fields}
        aliases = dict(aliases or {})
        for target in aliases.values():
            by_name[target.partition(".")[0]]
        return cls(
            by_name,
            tuple(by_name[name] for name in full_text),
            aliases,
            None if bare_keys is None else by_name[bare_keys],
        )

    def known(self) -> str:
        """The names that a filter may use, for an error."""
        names = [f"{name}.<key>" if each.is_map else name for name, each in self.fields.items()]
        return ", ".join([*names, *self.aliases])
