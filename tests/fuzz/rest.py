"""REST requests from the routes of the contract: paths, query strings and bodies, right or nearly so."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from google.protobuf.message import Message

from tests.fuzz import mutations, texts
from tests.fuzz.contract import Route
from tests.fuzz.decoders import tree

_VARIABLE = re.compile(r"\{([\w.]+)(?:=([^}]*))?\}")
CONTENT_TYPES = (
    "application/json",
    "application/json; charset=utf-8",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/grpc",
    "application/grpc-web",
    "application/xml",
    "",
    "x" * 500,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request; the path has its query and is encoded."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes


def call(rng: Random, route: Route, message: Message) -> Call:
    """A request for a route, from a request of its RPC."""
    fields = tree(message)
    path = _VARIABLE.sub(lambda found: _variable(rng, found, fields), route.template)
    verb = (
        route.verb if rng.random() < 0.97 else rng.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"))
    )
    headers = {"content-type": "application/json"}
    body = b""
    if route.body == "*":
        body, fields = mutations.json_text(rng, fields), {}
    elif route.body:
        body = mutations.json_text(rng, _taken(fields, route.body))
    if rng.random() < 0.05:
        headers["content-type"] = rng.choice(CONTENT_TYPES)
    if body and rng.random() < 0.05:
        headers["content-encoding"], body = mutations.squeezed(rng, body)
    if not route.body and rng.random() < 0.03:
        body = mutations.json_text(rng, fields)
    pairs = list(_query(fields, ""))
    if rng.random() < 0.15:
        pairs.append(_odd_pair(rng, pairs))
    query = "&".join(f"{_encoded(rng, name)}={_encoded(rng, value)}" for name, value in pairs)[:12_000]
    if rng.random() < 0.02:
        path = _odd_path(rng, path)
    return Call(verb, path + (f"?{query}" if query else ""), headers, body)


def _variable(rng: Random, found: re.Match[str], fields: dict[str, Any]) -> str:
    value = _taken(fields, found[1])
    value = value if isinstance(value, str) and value else texts.text(rng)
    # Paths are logged: nobody keeps secrets there.
    value = value.replace(texts.SECRET, "secret")
    # A name has its collection in it, and is a part of the path as it is.
    encoded = quote(value[:2000], safe="/" if found[2] else "")
    if rng.random() < 0.05:
        encoded = rng.choice(("%", "%zz", "%00", "%2e%2e%2f", "..", "%ff", "%c0%80", "a%2Fb", ";", "%25%32%46", "*"))
    return encoded or "x"


def _taken(fields: dict[str, Any], path: str) -> Any:
    """Takes a field out of a tree."""
    *outer, last = [_camel(part) for part in path.split(".")]
    node: Any = fields
    for part in outer:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return node.pop(last, {}) if isinstance(node, dict) else {}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _query(node: Any, prefix: str) -> Any:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _query(value, f"{prefix}.{name}" if prefix else name)
    elif isinstance(node, list):
        for item in node:
            yield from _query(item, prefix)
    else:
        yield prefix, node if isinstance(node, str) else json.dumps(node)


def _odd_pair(rng: Random, pairs: list[tuple[str, str]]) -> tuple[str, str]:
    if pairs and rng.random() < 0.5:
        name, _ = rng.choice(pairs)
        return name, texts.text(rng)
    name = rng.choice(
        ("access_token", "token", "nothing", "a.b.c", "", "pageSize", "page_size", "filter", "labels.a", "[]")
    )
    return name, f"{texts.SECRET}-{rng.getrandbits(32):08x}"


def _encoded(rng: Random, text: str) -> str:
    if rng.random() < 0.01:
        return rng.choice(("%", "%z", "%80", "+", "=", "%00", "&&"))
    return quote(text.encode("utf-8", "surrogatepass")[:3000], safe="")


def _odd_path(rng: Random, path: str) -> str:
    return rng.choice(
        (
            path + "/",
            path + "/..",
            "/" + path,
            path.upper(),
            path + ":nothing",
            path + "%20",
            "/api/v1",
            "/",
            "/api/v1/" + "x" * 9000,
        )
    )
