"""Where quotas are kept, as a seam: the API server, or memory for replays and tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Protocol

from driver.kube.client import JSON, ConflictError, KubeClient, NotFoundError
from driver.kube.informer import Informer
from driver.kube.resources import ACCELERATOR_QUOTAS


class QuotaStore(Protocol):
    """AcceleratorQuotas."""

    def known(self, namespace: str) -> list[JSON]:
        """The quotas of a namespace by name, as they were a moment ago; not to be changed by the caller."""

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


class ApiStore:
    """Quotas in the API server, with an informer for what is known."""

    def __init__(self, client: KubeClient, quotas: Informer[JSON]) -> None:
        """Prepares a store.

        Args:
            client: The API server.
            quotas: An informer of all quotas, whole; this store has to be subscribed to it by `note`.
        """
        self._client = client
        self._quotas = quotas
        self._names: dict[str, set[str]] = {}

    def note(self, key: str, _before: JSON | None, after: JSON | None) -> None:
        """A handler of the informer: keeps the names by namespace."""
        namespace, _, name = key.partition("/")
        names = self._names.setdefault(namespace, set())
        if after is not None:
            names.add(name)
        else:
            names.discard(name)
            if not names:
                del self._names[namespace]

    def known(self, namespace: str) -> list[JSON]:
        """The quotas of a namespace; see `QuotaStore`."""
        found = (self._quotas.get(f"{namespace}/{name}") for name in sorted(self._names.get(namespace, ())))
        return [one for one in found if one is not None]

    async def read(self, *, namespace: str, name: str) -> JSON:
        """A quota as it is stored now; see `QuotaStore`."""
        return await self._client.get(ACCELERATOR_QUOTAS, name, namespace=namespace)

    async def write_status(self, document: JSON) -> JSON:
        """Replaces a quota's status; see `QuotaStore`."""
        metadata = document["metadata"]
        written = await self._client.replace(
            ACCELERATOR_QUOTAS,
            document,
            name=metadata["name"],
            namespace=metadata["namespace"],
            subresource="status",
        )
        self._quotas.observe(written)
        return written


class MemoryStore:
    """Quotas in memory, with the API server's rules about versions."""

    def __init__(self, documents: Iterable[Mapping[str, Any]] = ()) -> None:
        self._documents: dict[tuple[str, str], JSON] = {}
        self._version = 0
        for one in documents:
            self.put(one)

    def put(self, document: Mapping[str, Any]) -> None:
        """Stores a quota as somebody wrote it."""
        self._version += 1
        made: JSON = deepcopy(dict(document))
        metadata = made.setdefault("metadata", {})
        metadata.setdefault("namespace", "default")
        metadata.setdefault("uid", f"quota-{self._version}")
        metadata["resourceVersion"] = str(self._version)
        self._documents[metadata["namespace"], metadata["name"]] = made

    def remove(self, *, namespace: str, name: str) -> None:
        """Forgets a quota."""
        self._documents.pop((namespace, name), None)

    def known(self, namespace: str) -> list[JSON]:
        """The quotas of a namespace; see `QuotaStore`."""
        return [one for (where, _), one in sorted(self._documents.items()) if where == namespace]

    async def read(self, *, namespace: str, name: str) -> JSON:
        """A quota as it is stored now; see `QuotaStore`."""
        found = self._documents.get((namespace, name))
        if found is None:
            raise NotFoundError(f"There is no quota {name} in {namespace}.", status=404)
        return deepcopy(found)

    async def write_status(self, document: JSON) -> JSON:
        """Replaces a quota's status; see `QuotaStore`."""
        metadata = document["metadata"]
        present = await self.read(namespace=metadata["namespace"], name=metadata["name"])
        if present["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
            raise ConflictError("The quota was changed meanwhile.", status=409)
        self._version += 1
        present["status"] = deepcopy(document["status"])
        present["metadata"]["resourceVersion"] = str(self._version)
        self._documents[metadata["namespace"], metadata["name"]] = present
        return deepcopy(present)
