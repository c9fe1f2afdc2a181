"""Where claims and pods are read: the API server, or a folder of manifests.

Purpose: the engine asks `ClaimSource` and knows neither HTTP nor files. The folder serves `hack/demo` and the
tests that kill the agent; it is no API server: nothing is validated, defaulted or written.

Limits: objects are plain JSON as the API server has them.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from driver.errors import ClaimError
from driver.kube.client import JSON, KubeClient, NotFoundError
from driver.kube.resources import PODS, RESOURCE_CLAIMS


class ClaimMissingError(ClaimError):
    """There is no claim of this name."""

    reason: ClassVar[str] = "ClaimMissing"


@dataclass(frozen=True, kw_only=True)
class ClaimRef:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str


class ClaimSource(Protocol):
    """Reads claims and pods as they are now."""

    async def get_claim(self, *, namespace: str, name: str) -> JSON:
        """The claim.

        Raises:
            ClaimMissingError: There is none.
            KubeError: Nobody can say now.
        """

    async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> JSON | None:
        """The pod, None if there is none.

        Args:
            namespace: Its namespace.
            name: Its name.
            cached: An older state will do, if that is quicker.

        Raises:
            KubeError: Nobody can say now.
        """


class PodResources(Protocol):
    """What the kubelet says about the containers that it runs."""

    async def claims_in_use(self) -> frozenset[ClaimRef] | None:
        """The claims of the kubelet's active pods that we may have prepared; None where that is not known.

        Where the kubelet does not say which claim a name stands for, `uid` is "".
        """


def missing(*, namespace: str, name: str) -> ClaimMissingError:
    """The refusal for a claim that is not there."""
    return ClaimMissingError(
        f"ResourceClaim {namespace}/{name} does not exist.", remedy="Delete the pod that refers to it."
    )


class KubeClaimSource:
    """Claims and pods of the API server."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def get_claim(self, *, namespace: str, name: str) -> JSON:
        """See `ClaimSource`."""
        try:
            return await self._client.get(RESOURCE_CLAIMS, name, namespace=namespace)
        except NotFoundError:
            raise missing(namespace=namespace, name=name) from None

    async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> JSON | None:
        """See `ClaimSource`."""
        try:
            return await self._client.get(PODS, name, namespace=namespace, cached=cached)
        except NotFoundError:
            return None


_Key = tuple[str, str, str]
_Signature = tuple[str, int, int, int]


class FileClaimSource:
    """Claims and pods of a folder: `*.yaml`, `*.yml` and `*.json`, several documents a file, lists as well.

    What changed is read again at the next question. Replace a manifest by renaming another over it: one that
    is half written is passed over until it can be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[_Signature, dict[_Key, JSON]] = {}
        self._mutex = threading.Lock()

    async def get_claim(self, *, namespace: str, name: str) -> JSON:
        """See `ClaimSource`."""
        found = await asyncio.to_thread(self._find, ("ResourceClaim", namespace, name))
        if found is None:
            raise missing(namespace=namespace, name=name)
        return found

    async def get_pod(
        self,
        *,
        namespace: str,
        name: str,
        cached: bool = False,  # noqa: ARG002 - files are always as they are now
    ) -> JSON | None:
        """See `ClaimSource`."""
        return await asyncio.to_thread(self._find, ("Pod", namespace, name))

    def _find(self, key: _Key) -> JSON | None:
        with self._mutex:
            # Once for all who ask at the same time.
            current: dict[_Signature, dict[_Key, JSON]] = {}
            for signature in sorted(_signatures(self._folder)):
                objects = self._files.get(signature)
                current[signature] = _read(self._folder / signature[0]) if objects is None else objects
            self._files = current
        return next((objects[key] for objects in current.values() if key in objects), None)


def _signatures(folder: Path) -> Iterator[_Signature]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".yaml", ".yml", ".json")) and not entry.name.startswith("."):
                status = entry.stat()
                yield entry.name, status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> dict[_Key, JSON]:
    import yaml  # noqa: PLC0415 - an agent with an API server needs none, and it costs 0.9 MiB

    try:
        text = path.read_text(encoding="utf-8")
        # JSON is YAML, but its own parser is a hundred times faster.
        documents = [json.loads(text)] if path.suffix == ".json" else list(yaml.safe_load_all(text))
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError):
        return {}
    return {_key(found): found for document in documents for found in _objects(document)}


def _objects(document: Any) -> Iterator[JSON]:
    if isinstance(document, dict):
        if str(document.get("kind", "")).endswith("List"):
            for item in document.get("items") or []:
                yield from _objects(item)
        else:
            yield document


def _key(found: JSON) -> _Key:
    metadata = found.get("metadata") or {}
    return str(found.get("kind")), str(metadata.get("namespace", "default")), str(metadata.get("name"))
