"""The API server's verbs that Dragoman needs, as a Protocol, and its refusals as exceptions.

Purpose: controller and agent are written against `KubeClient`; transports implement it; tests implement it
by a function. The seam is the transport (`request`), not the verbs: every verb below is built from it.

Limits: objects are plain JSON dicts, because typed models lose the fields that they do not know (measured),
and an object that passed through one must never be written back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from driver.errors import KubeError
from driver.kube.resources import Resource

JSON = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class ApiError(KubeError):
    """The API server answered with an error status.

    Attributes:
        status: HTTP status code; 0 where no answer came.
        kube_reason: Kubernetes' `Status.reason`, such as `NotFound`; "" where there is none.
    """

    reason: ClassVar[str] = "ApiServer"

    def __init__(self, message: str, *, status: int, kube_reason: str = "", body: JSON | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kube_reason = kube_reason
        self.body = body or {}


class NotFoundError(ApiError):
    """404: the object does not exist."""


class ConflictError(ApiError):
    """409: the object changed meanwhile, or exists already."""


class GoneError(ApiError):
    """410: the resourceVersion is too old; list again."""


class ForbiddenError(ApiError):
    """403: RBAC or an admission policy refused."""

    retriable = False


class UnreachableError(ApiError):
    """No answer: connection refused, time-out, broken connection."""


class SilentWatchError(UnreachableError):
    """A watch that the server had accepted sent no byte for too long: a dead connection, or a quiet kind.

    The API server sends no bookmarks for a kind of which it saw no event since its start (seen on 1.36.3), so
    silence alone does not mean that the server is away.
    """


def error_for(status: int, *, message: str, kube_reason: str = "", body: JSON | None = None) -> ApiError:
    """The exception that stands for an HTTP status."""
    kinds: dict[int, type[ApiError]] = {
        403: ForbiddenError,
        404: NotFoundError,
        409: ConflictError,
        410: GoneError,
    }
    kind = kinds.get(status, UnreachableError if status == 0 else ApiError)
    return kind(message, status=status, kube_reason=kube_reason, body=body)


class AnswerTooLargeError(ApiError):
    """The answer is larger than whoever asked can take; it was not read to its end."""


@dataclass(kw_only=True)
class AnswerSize:
    """How large an answer may be, and how large it was.

    Attributes:
        most: Bytes that are read at most; 0 for all.
        read: Bytes of the answer; 0 where the transport does not tell.
    """

    most: int = 0
    read: int = 0


class Transport(Protocol):
    """One request to the API server; everything else is built on it."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JSON | list[JSON] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 30.0,
        size: AnswerSize | None = None,
    ) -> JSON:
        """Sends a request and decodes the JSON answer.

        Raises:
            AnswerTooLargeError: It is larger than `size` allows.
            ApiError: The server answered with a status of 400 or above, or not at all (status 0).
        """

    async def close(self) -> None:
        """Closes connections."""


class StreamingTransport(Transport, Protocol):
    """A transport that can also watch."""

    def stream(self, path: str, *, query: dict[str, str], idle_timeout_s: float) -> AsyncIterator[JSON]:
        """Yields the JSON documents of a watch, one a line.

        Raises:
            ApiError: As for `request`; UnreachableError after `idle_timeout_s` without a byte.
        """


class KubeClient:
    """The verbs, over any transport."""

    def __init__(self, transport: StreamingTransport) -> None:
        self._transport = transport

    @property
    def transport(self) -> StreamingTransport:
        """What carries the requests."""
        return self._transport

    async def get(self, resource: Resource, name: str, *, namespace: str = "", cached: bool = False) -> JSON:
        """Reads one object; NotFoundError if there is none.

        Args:
            resource: Its kind.
            name: Its name.
            namespace: Its namespace, "" for those of the cluster.
            cached: Take what the API server has in memory: half the time and no load on etcd, but it may be
                older than what this or another client saw before.
        """
        path = resource.path(namespace=namespace, name=name)
        return await self._transport.request("GET", path, query={"resourceVersion": "0"} if cached else None)

    async def list_page(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        size: AnswerSize | None = None,
    ) -> JSON:
        """Reads one page of a list, as the server answers it; see `driver.kube.paging` for all of them.

        Raises:
            AnswerTooLargeError: The page is larger than `size` allows.
        """
        query = {"limit": str(limit)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        if continue_token:
            query["continue"] = continue_token
        path = resource.path(namespace=namespace)
        if size is None:
            return await self._transport.request("GET", path, query=query)
        return await self._transport.request("GET", path, query=query, size=size)

    async def create(
        self, resource: Resource, body: JSON, *, namespace: str = "", dry_run: bool = False
    ) -> JSON:
        """Creates an object; ConflictError if one of that name exists."""
        query = {"dryRun": "All"} if dry_run else None
        return await self._transport.request(
            "POST", resource.path(namespace=namespace), query=query, body=body
        )

    async def replace(
        self,
        resource: Resource,
        body: JSON,
        *,
        name: str,
        namespace: str = "",
        subresource: str = "",
        timeout_s: float | None = None,
    ) -> JSON:
        """Replaces an object; with `metadata.resourceVersion` set, ConflictError if it changed meanwhile.

        Args:
            resource: Its kind.
            body: The object.
            name: Its name.
            namespace: Its namespace, "" for those of the cluster.
            subresource: The part of it that is replaced.
            timeout_s: How long this side waits for an answer, and how long the API server works on it.
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        if timeout_s is None:
            return await self._transport.request("PUT", path, body=body)
        # The server would go on for its own limit (60 s), also after nobody waits any more.
        query = {"timeout": f"{max(1, int(timeout_s * 1000))}ms"}
        return await self._transport.request("PUT", path, query=query, body=body, timeout_s=timeout_s)

    async def patch(
        self,
        resource: Resource,
        body: JSON | list[JSON],
        *,
        name: str,
        namespace: str = "",
        subresource: str = "",
        content_type: str = MERGE,
        query: dict[str, str] | None = None,
    ) -> JSON:
        """Patches an object or one of its subresources."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._transport.request("PATCH", path, query=query, body=body, content_type=content_type)

    async def apply(
        self,
        resource: Resource,
        body: JSON,
        *,
        name: str,
        field_manager: str,
        namespace: str = "",
        subresource: str = "",
    ) -> JSON:
        """Server-side apply, taking over fields that another manager owns."""
        return await self.patch(
            resource,
            body,
            name=name,
            namespace=namespace,
            subresource=subresource,
            content_type=APPLY,
            query={"fieldManager": field_manager, "force": "true"},
        )

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", uid: str = "", resource_version: str = ""
    ) -> None:
        """Deletes an object; with preconditions, ConflictError if it is another one by now."""
        preconditions = {
            key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value
        }
        body: JSON = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if preconditions:
            body["preconditions"] = preconditions
        await self._transport.request("DELETE", resource.path(namespace=namespace, name=name), body=body)

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_s: int = 290,
    ) -> AsyncIterator[JSON]:
        """Watch events from a resourceVersion on, bookmarks included, until the server ends the watch."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_s),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        # Bookmarks come about once a minute where there is change, and not at all for a kind that was quiet
        # since the server's start (seen on 1.36.3): silence means ask again, not that the server is dead.
        return self._transport.stream(resource.path(namespace=namespace), query=query, idle_timeout_s=70.0)

    async def raw_get(self, path: str) -> JSON:
        """Reads a path that is no resource, such as `/version`."""
        return await self._transport.request("GET", path)

    async def close(self) -> None:
        """Closes the transport."""
        await self._transport.close()
