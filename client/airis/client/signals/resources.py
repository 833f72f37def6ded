"""Resources after AIP-131 to 135: create, get, list, update, delete. The same code for each kind."""

# ruff: noqa: A002 (arguments have the names of the contract)
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from airis.client.calls import Calls
from airis.client.paging import Paged
from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

ResourceT = TypeVar("ResourceT", bound=Message)


@dataclass(frozen=True, slots=True)
class Shape(Generic[ResourceT]):
    """What the contract calls a kind of resource.

    Attributes:
        module: The module with the requests.
        resource: The resource's class.
        singular: As in `CreateAlertRule`.
        plural: As in `ListAlertRules`.
        field: As in `CreateAlertRuleRequest.alert_rule`.
        fields: As in `ListAlertRulesResponse.alert_rules`.
    """

    module: Any
    resource: type[ResourceT]
    singular: str
    plural: str
    field: str
    fields: str

    def request(self, verb: str, **values: Any) -> Any:
        """The request of a verb: "Create"."""
        noun = self.plural if verb == "List" else self.singular
        return getattr(self.module, f"{verb}{noun}Request")(**values)


class Resources(Generic[ResourceT]):
    """Resources of one kind. Each call raises `AirisError` when it fails.

    Args:
        calls: The service's calls.
        shape: The kind.
    """

    def __init__(self, calls: Calls, shape: Shape[ResourceT]) -> None:
        self._calls = calls
        self._shape = shape

    async def create(self, resource: ResourceT, *, id: str = "", timeout: float | None = None) -> ResourceT:
        """Creates a resource.

        Args:
            resource: What it is; its name is not used.
            id: The last part of its name; empty: made by the server.
            timeout: Seconds; None: the contract's.

        Raises:
            AlreadyExistsError: The id is taken.
        """
        shape = self._shape
        request = shape.request("Create", **{shape.field: resource, f"{shape.field}_id": id})
        return await self._calls.unary(f"Create{shape.singular}", request, shape.resource, timeout)

    async def get(self, name: str, *, timeout: float | None = None) -> ResourceT:
        """Gets a resource by its full name. Raises `NotFoundError` if there is none."""
        shape = self._shape
        request = shape.request("Get", name=name)
        return await self._calls.unary(f"Get{shape.singular}", request, shape.resource, timeout)

    def list(
        self, *, filter: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> Paged[Any, ResourceT]:
        """The resources, by name.

        Args:
            filter: Which; only alert rules can be filtered.
            page_size: Resources a page; 0: 100.
            page_token: Where to go on.
            timeout: Seconds for each page; None: the contract's.
        """
        shape = self._shape
        values = {"filter": filter} if filter else {}

        async def fetch(token: str) -> Any:
            request = shape.request("List", page_size=page_size, page_token=token, **values)
            response = getattr(shape.module, f"List{shape.plural}Response")
            return await self._calls.unary(f"List{shape.plural}", request, response, timeout)

        return Paged(fetch, shape.fields, page_token)

    async def update(
        self, resource: ResourceT, *, fields: Iterable[str] = (), timeout: float | None = None
    ) -> ResourceT:
        """Changes the resource of that name.

        Args:
            resource: With its name; with an etag, the change is made only if that is current.
            fields: Which fields to change, `["*"]` is all; empty: those that are set.
            timeout: Seconds; None: the contract's.

        Raises:
            NotFoundError: There is none of that name.
            AbortedError: The etag is not the current one.
        """
        shape = self._shape
        paths = list(fields)
        mask = {"update_mask": FieldMask(paths=paths)} if paths else {}
        request = shape.request("Update", **{shape.field: resource, **mask})
        return await self._calls.unary(f"Update{shape.singular}", request, shape.resource, timeout)

    async def delete(self, name: str, *, etag: str = "", timeout: float | None = None) -> None:
        """Deletes a resource; with an etag only if that is current.

        Raises:
            NotFoundError: There is none of that name.
            AbortedError: The etag is not the current one.
        """
        request = self._shape.request("Delete", name=name, etag=etag)
        await self._calls.unary(f"Delete{self._shape.singular}", request, Empty, timeout)
