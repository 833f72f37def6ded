"""The SQL of log queries: text from here, every value of the user as a parameter."""

from __future__ import annotations

from collections.abc import Sequence

from services.logs.model import METADATA_COLUMNS, PLAIN_COLUMNS, Arrived, CountQuery, SearchQuery, Selection
from services.logs.store.port import MAX_GROUPS
from services.shared.filter import Checked
from services.shared.filter.clickhouse import compile_clickhouse
from services.shared.filter.tree import AllOf, AnyOf, Negation, TermMatch

Statement = tuple[str, dict[str, object]]

SAMPLE_CHARACTERS = 1000

_MINUTE_NS = 60_000_000_000
_ROLLUP_FIELDS = {"level", "service"}

_ENTRY = ", ".join(
    (
        "ingest_position",
        "toUnixTimestamp64Nano(timestamp) AS time",
        "level",
        *PLAIN_COLUMNS,
        "labels",
        *METADATA_COLUMNS,
    )
)


def search(query: SearchQuery, condition: Checked | None) -> Statement:
    """Rows of an entry, in the order of the query."""
    selection, after = query.selection, query.after
    start, end = selection.start, selection.end
    direction, order = ("<", "DESC") if query.newest_first else (">", "ASC")
    more = ""
    if after is not None:
        # The range is narrowed too: unlike the comparison below, it lets the key skip what earlier pages gave.
        start, end = (start, after.timestamp + 1) if query.newest_first else (after.timestamp, end)
        moment = "fromUnixTimestamp64Nano({after_time:Int64}, 'UTC')"
        more += f"\n  AND (timestamp {direction} {moment} OR ingest_position {direction} {{after:UInt64}})"
    where, parameters = _where(Selection(selection.tenant, selection.filter, start, end), condition)
    parameters["limit"] = query.limit
    if after is not None:
        parameters |= {"after_time": after.timestamp, "after": after.ingest_position}
    if query.arrived is not None:
        ranges, bounds = _arrived(query.arrived)
        more += f"\n  AND {ranges}"
        parameters |= bounds
    return (
        f"SELECT {_ENTRY}\nFROM airis.logs\n{where}{more}\n"
        f"ORDER BY timestamp {order}, ingest_position {order}\nLIMIT {{limit:UInt32}}",
        parameters,
    )


def tail(tenant: str, condition: Checked | None, arrived: Sequence[Arrived], limit: int) -> Statement:
    """Rows of an entry, in the order of ingest."""
    compiled = compile_clickhouse(condition, prefix="f")
    ranges, bounds = _arrived(arrived)
    return (
        f"SELECT {_ENTRY}\nFROM airis.logs\n"
        f"WHERE tenant = {{tenant:String}} AND {ranges}\n"
        f"  AND {compiled.sql}\nORDER BY ingest_position\nLIMIT {{limit:UInt32}}",
        {"tenant": tenant, "limit": limit, **bounds, **compiled.parameters},
    )


def _arrived(ranges: Sequence[Arrived]) -> Statement:
    """The condition that an entry came in one of these ranges."""
    parameters: dict[str, object] = {}
    parts = []
    for at, (after, through) in enumerate(ranges):
        parameters |= {f"after{at}": after, f"through{at}": through}
        parts.append(f"(ingest_position > {{after{at}:UInt64}} AND ingest_position <= {{through{at}:UInt64}})")
    return f"({' OR '.join(parts) or 'false'})", parameters


def count(query: CountQuery, condition: Checked | None) -> Statement:
    """Rows of g (the group's values), n (its count), buckets (start and count of each) and total (over all groups).

    Whole minutes come from the rollup where it knows all that is asked for, the rest from the entries.
    """
    compiled = compile_clickhouse(condition, prefix="f")
    parameters: dict[str, object] = {
        "tenant": query.selection.tenant,
        "step": query.step,
        "groups": MAX_GROUPS,
        **compiled.parameters,
    }
    keys: list[str] = []
    for at, field in enumerate(query.group_by):
        if field.startswith("labels."):
            parameters[f"group{at}"] = field.removeprefix("labels.")
            field = f"labels[{{group{at}:String}}]"
        keys.append(f"{field} AS k{at}, ")
    parts = [
        _count_part(parameters, compiled.sql, "".join(keys), f"part{number}", *part)
        for number, part in enumerate(_parts(query, condition))
    ]
    union = "\n  UNION ALL\n".join(parts)
    group = ", ".join(f"toString(k{at})" for at in range(len(keys)))
    return (
        f"""SELECT {f"[{group}]" if group else "[]::Array(String)"} AS g, sum(c) AS n,
       arraySort(groupArray((t, c))) AS buckets, sum(n) OVER () AS total
FROM (
  SELECT {"".join(f"k{at}, " for at in range(len(keys)))}t, sum(part) AS c
  FROM (
{union}
  )
  GROUP BY ALL
)
GROUP BY g
ORDER BY n DESC, g
LIMIT {{groups:UInt32}}""",
        parameters,
    )


def _parts(query: CountQuery, condition: Checked | None) -> list[tuple[str, int, int]]:
    """Which table answers for which range."""
    start, end = query.selection.start, query.selection.end
    first, last = -(-start // _MINUTE_NS) * _MINUTE_NS, end // _MINUTE_NS * _MINUTE_NS
    is_known = {*query.group_by, *_names(condition)} <= _ROLLUP_FIELDS
    if not is_known or query.step % _MINUTE_NS or first >= last:
        return [("logs", start, end)]
    parts = [("logs", start, first), ("logs_1m", first, last), ("logs", last, end)]
    return [part for part in parts if part[1] < part[2]]


def _count_part(
    parameters: dict[str, object], condition: str, keys: str, name: str, table: str, start: int, end: int
) -> str:
    parameters |= {f"{name}_start": start, f"{name}_end": end}
    moment, value = "toUnixTimestamp64Nano(timestamp)", "count()"
    if table == "logs_1m":
        moment, value = "toInt64(toUnixTimestamp(timestamp)) * 1000000000", "sum(count)"
    return f"""    SELECT {keys}intDiv({moment}, {{step:Int64}}) * {{step:Int64}} AS t, {value} AS part
    FROM airis.{table}
    WHERE tenant = {{tenant:String}} AND timestamp >= fromUnixTimestamp64Nano({{{name}_start:Int64}}, 'UTC')
      AND timestamp < fromUnixTimestamp64Nano({{{name}_end:Int64}}, 'UTC') AND {condition}
    GROUP BY ALL"""


def _names(tree: Checked | None) -> set[str]:
    """The fields that a filter asks for."""
    if isinstance(tree, AllOf | AnyOf):
        return {name for operand in tree.operands for name in _names(operand)}
    if isinstance(tree, Negation):
        return _names(tree.operand)
    if isinstance(tree, TermMatch):
        return {field.name for field in tree.fields}
    return set() if tree is None else {tree.field.name}


def sample(selection: Selection, condition: Checked | None, limit: int) -> Statement:
    """Rows of text, level and writer, the newest first."""
    where, parameters = _where(selection, condition)
    return (
        "SELECT substringUTF8(message, 1, {characters:UInt32}) AS text, level, toString(service) AS writer\n"
        f"FROM airis.logs\n{where}\n"
        "ORDER BY timestamp DESC, ingest_position DESC\nLIMIT {limit:UInt32}",
        parameters | {"limit": limit, "characters": SAMPLE_CHARACTERS},
    )


def _where(selection: Selection, condition: Checked | None) -> Statement:
    compiled = compile_clickhouse(condition, prefix="f")
    return (
        "WHERE tenant = {tenant:String} AND timestamp >= fromUnixTimestamp64Nano({start:Int64}, 'UTC') "
        f"AND timestamp < fromUnixTimestamp64Nano({{end:Int64}}, 'UTC')\n  AND {compiled.sql}",
        {"tenant": selection.tenant, "start": selection.start, "end": selection.end, **compiled.parameters},
    )
