"""Where quotas are kept, as a seam: the API server, or memory for replays and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Protocol

from driver.kube.client import JSON, ConflictError, NotFoundError


class QuotaStore(Protocol):
    """AcceleratorQuotas."""

    def known(self, namespace: str) -> list[JSON]:
        """The quotas of a namespace as far as they are known here, which may be a moment ago; not to be
        changed by the caller."""  # noqa: D205, D209

    async def read(self, *, namespace: str, name: str) -> JSON:
        """A quota as it is stored now.

        Raises:
            NotFoundError: There is none.
            ApiError: It could not be read.
        """

    async def write_status(self, document: JSON) -> JSON:
        """Replaces a quota's status if nobody changed the quota meanwhile; gives it as it is stored.

        Raises:
            ConflictError: Somebody did.
            ApiError: It was not written, or nobody knows whether it was.
        """


class MemoryStore:
    """Quotas in memory, with the API server's rules about versions."""

    def __init__(self, documents: Iterable[Mapping[str, object]] = ()) -> None:
        self._documents: dict[tuple[str, str], JSON] = {}
        self._version = 0
        for one in documents:
            self.put(one)

    def put(self, document: Mapping[str, object]) -> None:
        """Stores a quota as somebody wrote it."""
        self._version += 1
        made: JSON = deepcopy(dict(document))
        metadata = made["metadata"]
        metadata.setdefault("namespace", "default")
        metadata["resourceVersion"] = str(self._version)
        metadata.setdefault("uid", f"quota-{self._version}")
        self._documents[metadata["namespace"], metadata["name"]] = made

    def remove(self, *, namespace: str, name: str) -> None:
        """Forgets a quota."""
        self._documents.pop((namespace, name), None)

    def known(self, namespace: str) -> list[JSON]:
        """The quotas of a namespace."""
        return [one for (where, _), one in sorted(self._documents.items()) if where == namespace]

    async def read(self, *, namespace: str, name: str) -> JSON:
        """A quota as it is stored now."""
        found = self._documents.get((namespace, name))
        if found is None:
            raise NotFoundError(f"There is no quota {name} in {namespace}.", status=404)
        return deepcopy(found)

    async def write_status(self, document: JSON) -> JSON:
        """Replaces a quota's status if nobody changed the quota meanwhile."""
        metadata = document["metadata"]
        present = await self.read(namespace=metadata["namespace"], name=metadata["name"])
        if present["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise ConflictError("The quota was changed meanwhile.", status=409)
        self._version += 1
        present["status"] = deepcopy(document["status"])
        present["metadata"]["resourceVersion"] = str(self._version)
        self._documents[metadata["namespace"], metadata["name"]] = present
        return deepcopy(present)
