"""What Envoy says when it refuses a call itself: in the services' own words and shapes.

REST clients get `{code, message, details}`, gRPC and gRPC-Web clients a status with `google.rpc.Status` in its details.
What differs per RPC (the permission, the domain) stands in the metadata of its route, written when this is generated.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from deploy.renderers.wording import Node, in_seconds
from resilience.contract import MethodPolicy, RateRule
from resilience.grpc.guard import PermissionMissingError

EDGE_DOMAIN = "edge.airis"
"""The domain of refusals that are of no service: a token is looked at before it is known whom the call is for."""

Trailers = dict[str, str]

ROUTE = "airis"
AUTHENTICATION_FILTER = "envoy.filters.http.jwt_authn"
AUTHENTICATION_FAILURE = "failure"

# HTTP status of a reply that Envoy itself makes, and the gRPC code that its body names.
_GRPC_CODES = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    405: 12,
    408: 4,
    413: 8,
    415: 3,
    429: 8,
    431: 8,
    502: 14,
    503: 14,
    504: 4,
}
_UNKNOWN = 2
_STATUS = "grpc-status-details-bin"
_BODY = "%LOCAL_REPLY_BODY%"

_MISSING = "The call has no token. Send `authorization: Bearer <token>`; `airis auth token` makes one."
_EXPIRED = "The token has expired. Get a new one."
_INVALID = "The token is malformed, its signature or key is wrong, or it is for someone else. Get a new one."
_NO_KEYS = "The keys that tokens are checked with cannot be had now. Try again."
_OVERLOADED = "As many calls of this kind are under way as may be. Try again later."
_OVERLOADED_RETRY = 0.1
_NO_KEYS_RETRY = 1.0


def route_metadata(policy: MethodPolicy, domain: str) -> Node:
    """What the replies to one RPC take from its route."""
    texts = {
        "domain": domain,
        "permission": policy.permission,
        "permission_missing": permission_message(policy.permission),
        "permission_missing_bin": _encoded(
            "PERMISSION_DENIED",
            permission_message(policy.permission),
            _info("PERMISSION_MISSING", domain, {"permission": policy.permission}),
        ),
        "overloaded_retry_bin": _base64(_retry_info(_OVERLOADED_RETRY)),
        "overloaded_bin": _encoded(
            "RESOURCE_EXHAUSTED", _OVERLOADED, _info("OVERLOADED", domain), _retry_info(_OVERLOADED_RETRY)
        ),
    }
    if policy.rate_limit is not None:
        message, wait = _rate_message(policy.method, policy.rate_limit), 1 / policy.rate_limit.per_second
        texts["rate_limited"] = message
        texts["rate_limited_bin"] = _encoded(
            "RESOURCE_EXHAUSTED", message, _info("RATE_LIMITED", domain), _retry_info(wait)
        )
        texts["rate_limited_retry_bin"] = _base64(_retry_info(wait))
        texts["retry_delay"] = in_seconds(wait)
    return {"filter_metadata": {ROUTE: texts}}


def permission_message(permission: str) -> str:
    """As the services word it."""
    return PermissionMissingError(permission).message


def local_replies(foreign_origin: Node) -> Node:
    """Envoy's own errors, in the shape that `convert_grpc_status` gives to the services' errors.

    Args:
        foreign_origin: The header match of web pages from elsewhere.
    """
    mappers = [*_authentication(), *_authorization(foreign_origin), *_limits(), *_others()]
    return {"mappers": mappers, "body_format": _error_body(_UNKNOWN, _BODY)}


def _authentication() -> Iterator[Node]:
    # No fault of the token's: as long as there are no keys, none can be checked.
    details = [_info_json("NOT_READY", EDGE_DOMAIN), _retry_json(in_seconds(_NO_KEYS_RETRY))]
    binary = _encoded("UNAVAILABLE", _NO_KEYS, _info("NOT_READY", EDGE_DOMAIN), _retry_info(_NO_KEYS_RETRY))
    yield from _replies([_failed("Jwks remote fetch is failed")], 14, _NO_KEYS, {_STATUS: binary}, details, status=503)
    for failure, reason, message in (
        ("Jwt is missing", "TOKEN_MISSING", _MISSING),
        ("Jwt is expired", "TOKEN_EXPIRED", _EXPIRED),
        # Of a wrong audience Envoy says 403 itself.
        (None, "TOKEN_INVALID", _INVALID),
    ):
        binary = _encoded("UNAUTHENTICATED", message, _info(reason, EDGE_DOMAIN))
        yield from _replies(
            [_failed(failure)], 16, message, {_STATUS: binary}, [_info_json(reason, EDGE_DOMAIN)], status=401
        )


def _authorization(foreign_origin: Node) -> Iterator[Node]:
    origin = "Web pages of this origin may not call this address."
    yield from _replies([_status_is(403), {"header_filter": {"header": foreign_origin}}], 7, origin)
    info = _info_json("PERMISSION_MISSING", _of_route("domain"), {"permission": _of_route("permission")})
    yield from _replies(
        [_status_is(403)], 7, _of_route("permission_missing"), {_STATUS: _of_route("permission_missing_bin")}, [info]
    )


def _limits() -> Iterator[Node]:
    domain = _of_route("domain")
    overloaded = [_info_json("OVERLOADED", domain), _retry_json(in_seconds(_OVERLOADED_RETRY))]
    # The pool of calls is full: `UO` is Envoy's flag for the overflow of a cluster's limits. It says 503 itself.
    yield from _replies([_flags("UO")], 8, _OVERLOADED, _busy_trailers("overloaded"), overloaded, status=429)
    details = [_info_json("RATE_LIMITED", domain), _retry_json(_of_route("retry_delay"))]
    yield from _replies([_status_is(429)], 8, _of_route("rate_limited"), _busy_trailers("rate_limited"), details)


def _busy_trailers(name: str) -> Trailers:
    # OTLP exporters read when to come again from a trailer of its own.
    return {_STATUS: _of_route(f"{name}_bin"), "google.rpc.retryinfo-bin": _of_route(f"{name}_retry_bin")}


def _others() -> Iterator[Node]:
    # To a gRPC client an unknown path is an unknown method: UNIMPLEMENTED.
    yield _grpc_reply([_status_is(404)], 12, "There is no such method at this address.", {})
    yield _json_reply([_flags("NR", "NC")], 5, "There is no such path.")
    for status, code in _GRPC_CODES.items():
        yield from _replies([_status_is(status)], code, _BODY)


def _replies(
    filters: list[Node],
    code: int,
    message: str,
    trailers: Trailers | None = None,
    details: list[Node] | None = None,
    status: int = 0,
) -> Iterator[Node]:
    """One reply in all shapes."""
    if trailers:
        yield _web_reply(filters, code, message, trailers)
    yield _grpc_reply(filters, code, message, trailers or {})
    reply = _json_reply(filters, code, message, details)
    yield {**reply, "status_code": status} if status else reply


def _grpc_reply(filters: list[Node], code: int, message: str, trailers: Trailers) -> Node:
    """For gRPC clients: plain text as the message, and the code where Envoy's own choice is another."""
    return {
        "filter": _all_of([*filters, *_NATIVE_GRPC]),
        "body_format_override": {"text_format_source": {"inline_string": message}},
        "headers_to_add": _headers({"grpc-status": str(code), **trailers}),
    }


def _web_reply(filters: list[Node], code: int, message: str, trailers: Trailers) -> Node:
    """For gRPC-Web clients: all in the headers of a reply 200 without a body, as of a service that only has trailers.

    Left to itself, Envoy's filter would choose the code by the HTTP status: for 429 another than to gRPC clients.
    """
    text = {"text_format_source": {"inline_string": ""}, "content_type": "application/grpc-web+proto"}
    return {
        "filter": _all_of([*filters, *_NATIVE_GRPC, _GRPC_WEB]),
        "status_code": 200,
        "body_format_override": text,
        "headers_to_add": _headers({"grpc-status": str(code), "grpc-message": message, **trailers}),
    }


def _json_reply(filters: list[Node], code: int, message: str, details: list[Node] | None = None) -> Node:
    return {"filter": _all_of(filters), "body_format_override": _error_body(code, message, details)}


def _error_body(code: int, message: str, details: list[Node] | None = None) -> Node:
    return {"json_format": {"code": code, "message": message, "details": details or []}}


def _headers(values: Trailers) -> list[Node]:
    action = "OVERWRITE_IF_EXISTS_OR_ADD"
    return [{"header": {"key": name, "value": value}, "append_action": action} for name, value in values.items()]


def _all_of(filters: list[Node]) -> Node:
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}}


def _status_is(status: int) -> Node:
    value = {"default_value": status, "runtime_key": f"airis.local_reply.{status}"}
    return {"status_code_filter": {"comparison": {"op": "EQ", "value": value}}}


def _flags(*flags: str) -> Node:
    return {"response_flag_filter": {"flags": list(flags)}}


def _failed(message: str | None) -> Node:
    """Why a token was refused, as the filter that looked at it noted; None: for whatever reason."""
    value: Node = {"string_match": {"exact": message}} if message else {"present_match": True}
    path = [{"key": AUTHENTICATION_FAILURE}, {"key": "message"}]
    matcher = {"filter": AUTHENTICATION_FILTER, "path": path, "value": value}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}


def _of_route(name: str) -> str:
    return f"%METADATA(ROUTE:{ROUTE}:{name})%"


# The filter of gRPC-Web makes requests look like gRPC, but for this header.
_GRPC_WEB: Node = {"header_filter": {"header": {"name": "x-grpc-web", "present_match": True}}}

# After transcoding, REST looks like gRPC except for the note of its path.
_NATIVE_GRPC: tuple[Node, ...] = (
    {"header_filter": {"header": {"name": "content-type", "string_match": {"prefix": "application/grpc"}}}},
    {"header_filter": {"header": {"name": "x-envoy-original-path", "present_match": False}}},
)


def _info(reason: str, domain: str, metadata: dict[str, str] | None = None) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata or {})


def _info_json(reason: str, domain: str, metadata: dict[str, str] | None = None) -> Node:
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": domain, "metadata": metadata or {}}


def _retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _retry_json(delay: str) -> Node:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def _encoded(code: str, message: str, *details: Message) -> str:
    """A `google.rpc.Status` as the value of a binary header."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail, deterministic=True)
        status.details.append(packed)
    return _base64(status)


def _base64(message: Message) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode().rstrip("=")


def _rate_message(method: str, rule: RateRule) -> str:
    return f"A tenant may call {method} {rule.per_second:g} times a second. Try again later."
