"""Reads what the person may read, and notes what they may not.

Flow: `Reading.all` lists a kind page by page and keeps of each object what the caller needs; where the API
server forbids it, the right is noted by name and None comes back.

Limits: reads only. A list that changes while it is read is read again once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from driver.kube.client import JSON, ForbiddenError, GoneError, KubeClient, NotFoundError
from driver.kube.resources import Resource

T = TypeVar("T")

PAGE = 500


class Reading:
    """Reads from one API server.

    Attributes:
        missing: Rights that were missing, as `list resourceclaims.resource.k8s.io in all namespaces`.
    """

    def __init__(self, client: KubeClient) -> None:
        self.missing: list[str] = []
        self._client = client

    async def version(self) -> str:
        """The API server's version, such as `v1.36.3`."""
        return str((await self._client.raw_get("/version")).get("gitVersion") or "")

    async def one(self, resource: Resource, name: str, *, namespace: str = "") -> JSON | None:
        """One object; None if it does not exist.

        Raises:
            ForbiddenError: It may not be read; the right is noted.
        """
        try:
            return await self._client.get(resource, name, namespace=namespace)
        except NotFoundError:
            return None
        except ForbiddenError:
            self._note("get", resource, namespace)
            raise

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
            page_size: Objects that are in memory at a time.
        """
        again = True
        found: list[T] = []
        token = ""
        while True:
            try:
                page = await self._client.list_page(
                    resource,
                    namespace=namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=page_size,
                    continue_token=token,
                )
            except ForbiddenError:
                self._note("list", resource, namespace)
                return None
            except NotFoundError:
                # The kind is not installed: there are none.
                return []
            except GoneError:
                if not again:
                    raise
                again, found, token = False, [], ""
                continue
            found += [kept for item in page.get("items") or [] if (kept := keep(item)) is not None]
            token = str((page.get("metadata") or {}).get("continue") or "")
            if not token:
                return found

    def _note(self, verb: str, resource: Resource, namespace: str) -> None:
        text = right(verb, resource, namespace)
        if text not in self.missing:
            self.missing.append(text)


def right(verb: str, resource: Resource, namespace: str = "") -> str:
    """A right in words."""
    kind = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
    if not resource.namespaced:
        return f"{verb} {kind}"
    return f"{verb} {kind} in {f'namespace {namespace}' if namespace else 'all namespaces'}"
