"""Reads what the person may read, and notes what they may not.

Flow: `Reading.all` lists a kind page by page and keeps of each object what the caller needs; where the API
server forbids it, the right is noted by name and None comes back.

Limits: reads only. A list that changes while it is read is read again once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from driver.kube.client import JSON, ForbiddenError, GoneError, KubeClient, NotFoundError
from driver.kube.paging import pages
from driver.kube.resources import Resource

T = TypeVar("T")

PAGE = 500
VERSION = "get /version"
"""The right to read the API server's version."""


class Reading:
    """Reads from one API server.

    Attributes:
        missing: Rights that were missing, as `list resourceclaims.resource.k8s.io in all namespaces`.
    """

    def __init__(self, client: KubeClient) -> None:
        self.missing: list[str] = []
        self._client = client

    async def version(self) -> str:
        """The API server's version, such as `v1.36.3`; "" if it may not be read, which is noted."""
        try:
            return str((await self._client.raw_get("/version")).get("gitVersion") or "")
        except ForbiddenError:
            self._note(VERSION)
            return ""

    async def one(self, resource: Resource, name: str, *, namespace: str = "") -> JSON | None:
        """One object; None if it does not exist.

        Raises:
            ForbiddenError: It may not be read; the right is named, and noted.
        """
        try:
            return await self._client.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None
        except ForbiddenError as refused:
            missing = right("get", resource, namespace)
            self._note(missing)
            # The API server's words say more where an authorizer gave a reason, and always who one is to it.
            raise ForbiddenError(
                f"{name} cannot be read: you lack the right to {missing} ({refused.message.rstrip('.')}).",
                status=refused.status,
                kube_reason=refused.kube_reason,
                body=refused.body,
            ) from None

    async def all(
        self,
        resource: Resource,
        keep: Callable[[JSON], T | None],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        page_size: int = PAGE,
    ) -> list[T] | None:
        """What is kept of all objects of a kind; None if they may not be listed.

        Args:
            resource: The kind.
            keep: What to keep of an object; None leaves it out.
            namespace: A namespace, "" for all.
            label_selector: Only these.
            field_selector: Only these.
            page_size: Objects that are in memory at a time, at most.
        """
        for attempt in (1, 2):
            found: list[T] = []
            try:
                async for page in pages(
                    self._client,
                    resource,
                    namespace=namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    most=page_size,
                ):
                    found += [kept for item in page.get("items") or [] if (kept := keep(item)) is not None]
                    del page
            except ForbiddenError:
                # Whatever was read before: a right that is taken away meanwhile is one that is missing.
                self._note(right("list", resource, namespace))
                return None
            except NotFoundError:
                # The kind is not installed: there are none.
                return []
            except GoneError:
                if attempt == 2:
                    raise
                continue
            break
        return found

    def _note(self, text: str) -> None:
        if text not in self.missing:
            self.missing.append(text)


def right(verb: str, resource: Resource, namespace: str = "") -> str:
    """A right in words."""
    kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if not resource.namespaced:
        return f"{verb} {kind}"
    return f"{verb} {kind} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
