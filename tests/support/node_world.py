"""A node for tests of prepare: cards, claims and pods as plain data, and an engine on a folder."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driver.cards import Card, IsolationLevel, pool_name
from driver.cdi import ContainerEdits, DeviceNode
from driver.errors import DragomanError
from driver.isolation.choose import Chosen
from driver.kube.client import UnreachableError
from kubelet_plugin.prepare.claims import ClaimRef, missing
from kubelet_plugin.prepare.engine import EngineSettings, PrepareEngine
from kubelet_plugin.prepare.prepared import PreparedClaim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from driver.api.share_config import ShareConfig
    from driver.shares import Share
    from kubelet_plugin.prepare.claims import PodResources
    from kubelet_plugin.prepare.phases import Recorder

JSON = dict[str, Any]
NODE = "worker"
POOL = pool_name(NODE)
MIB = 1 << 20
_IDS = uuid.UUID("5f0c5d5e-0000-4000-8000-000000000000")


def uid_of(name: str) -> str:
    """The same UID for the same name."""
    return str(uuid.uuid5(_IDS, name))


def card(name: str = "card-0", *, mib: int = 1000, pci: str = "0000:3b:00.0", **changes: Any) -> Card:
    return Card(name=name, vendor="nvidia", model="Test", memory_bytes=mib * MIB, pci_bus_id=pci, **changes)


def result(
    *,
    request: str = "gpu",
    device: str = "card-0",
    memory: str | None = "100Mi",
    cores: str | None = "0",
    share: str = "a",
    **changes: Any,
) -> JSON:
    """One result of an allocation; `share=""` for one without a shareID."""
    found: JSON = {"request": request, "driver": "dragoman.dev", "pool": POOL, "device": device}
    if share:
        found["shareID"] = uid_of(f"share-{share}")
        amounts = {"memory": memory, "cores": cores}
        found["consumedCapacity"] = {key: value for key, value in amounts.items() if value is not None}
    return found | changes


def claim(
    name: str = "claim",
    *results: JSON,
    pods: tuple[str, ...] = ("pod",),
    owner: str = "pod",
    config: tuple[JSON, ...] = (),
    uid: str = "",
    namespace: str = "default",
) -> JSON:
    """An allocated claim; without results it is not allocated."""
    owners = [{"kind": "Pod", "name": owner, "uid": uid_of(owner), "controller": True}] if owner else []
    status: JSON = {
        "reservedFor": [{"resource": "pods", "name": pod, "uid": uid_of(pod)} for pod in pods],
    }
    if results:
        status["allocation"] = {"devices": {"results": list(results), "config": list(config)}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": uid or uid_of(name),
            "ownerReferences": owners,
        },
        "status": status,
    }


def share_config(request: str = "", **parameters: Any) -> JSON:
    """A config entry of an allocation."""
    return {
        "source": "FromClaim",
        "requests": [request] if request else [],
        "opaque": {
            "driver": "dragoman.dev",
            "parameters": {"apiVersion": "dragoman.dev/v1alpha1", "kind": "ShareConfig", **parameters},
        },
    }


def container(name: str, *uses: tuple[str, str], **changes: Any) -> JSON:
    """A container that uses (entry, request) pairs."""
    claims = [{"name": entry, "request": request} if request else {"name": entry} for entry, request in uses]
    return {"name": name, "resources": {"claims": claims}, **changes}


def pod(
    name: str = "pod",
    *,
    claims: Mapping[str, str] | None = None,
    containers: tuple[JSON, ...] = (),
    init: tuple[JSON, ...] = (),
    node: str = NODE,
    status: JSON | None = None,
) -> JSON:
    """A pod; `claims` maps entries to claims' object names."""
    entries = {"gpu": "claim"} if claims is None else claims
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": uid_of(name)},
        "spec": {
            "nodeName": node,
            "resourceClaims": [{"name": key, "resourceClaimName": value} for key, value in entries.items()],
            "containers": list(containers or (container("app", *((entry, "") for entry in entries)),)),
            "initContainers": list(init),
        },
        "status": status or {},
    }


def ref(found: JSON) -> ClaimRef:
    """How the kubelet names a claim."""
    metadata = found["metadata"]
    return ClaimRef(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])


class Claims:
    """An API server's claims and pods."""

    def __init__(self, *objects: JSON) -> None:
        self.objects: dict[tuple[str, str, str], JSON] = {}
        self.away = False
        self.asked: list[tuple[str, str]] = []
        self.was_asked = threading.Event()
        self.put(*objects)

    def put(self, *objects: JSON) -> None:
        for found in objects:
            metadata = found["metadata"]
            self.objects[(found["kind"], metadata["namespace"], metadata["name"])] = found

    def drop(self, found: JSON) -> None:
        metadata = found["metadata"]
        del self.objects[(found["kind"], metadata["namespace"], metadata["name"])]

    async def get_claim(self, *, namespace: str, name: str) -> JSON:
        found = self._get("ResourceClaim", namespace, name)
        if found is None:
            raise missing(namespace=namespace, name=name)
        return found

    async def get_pod(self, *, namespace: str, name: str, cached: bool = False) -> JSON | None:
        return self._get("Pod", namespace, name)

    def _get(self, kind: str, namespace: str, name: str) -> JSON | None:
        self.asked.append((kind, name))
        self.was_asked.set()
        if self.away:
            raise UnreachableError("the API server does not answer", status=0)
        return self.objects.get((kind, namespace, name))


class Cards:
    """The node's cards; limits are held by `level`, whose traces on the node are files in `region`."""

    def __init__(self, *cards: Card, region: Path, level: IsolationLevel = IsolationLevel.PRELOAD) -> None:
        self.found = {card.name: card for card in cards or (card_0(),)}
        self.level = level
        self.region = region
        self.refuse: Exception | None = None
        self.refuse_edits: Exception | None = None

    def cards(self) -> Mapping[str, Card]:
        return self.found

    def vendor_edits(self, card: Card) -> ContainerEdits:
        return ContainerEdits(device_nodes=(DeviceNode(path=f"/dev/{card.name}"),), env={"VENDOR": "test"})

    def choose(self, share: Share, *, card: Card, config: ShareConfig) -> Chosen:
        if self.refuse is not None and share.limits_memory:
            raise self.refuse
        return Chosen(
            memory=self.level if share.limits_memory else None,
            cores=self.level if share.limits_cores and config.core_policy == "force" else None,
        )

    def isolation_edits(
        self, share: Share, *, card: Card, chosen: Chosen, index: int, core_policy: str, priority: str = ""
    ) -> ContainerEdits:
        if self.refuse_edits is not None:
            raise self.refuse_edits
        if chosen.memory is None and chosen.cores is None:
            return ContainerEdits()
        self._trace(share).mkdir(parents=True, exist_ok=True)
        return ContainerEdits(
            env={f"LIMIT_{index}": f"{share.memory_mib}m", f"CORES_{index}": f"{share.cores_percent}"}
        )

    def stands(self, card: Card, edits: ContainerEdits) -> bool:
        return True

    def undo(self, share: Share, *, chosen: Chosen) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._trace(share).rmdir()

    def held_claims(self) -> frozenset[str]:
        return frozenset(path.name.partition(".")[0] for path in self.region.glob("*"))

    def undo_claim(self, uid: str) -> None:
        for path in self.region.glob(f"{uid}.*"):
            path.rmdir()

    def _trace(self, share: Share) -> Path:
        return self.region / f"{share.claim_uid}.{share.base_request}"


def card_0() -> Card:
    return card()


@dataclass
class World:
    """A node's folder with everything around it; `engine()` is one life of the agent."""

    folder: Path
    quick: bool = False
    """Whether calls for one claim go the quick way, in one thread."""
    claims: Claims = field(default_factory=Claims)
    kubelet: PodResources | None = None
    """Who says which claims are in use; None where nobody is asked."""
    cards: Cards = field(init=False)

    def __post_init__(self) -> None:
        self.cards = Cards(region=self.folder / "region")

    @contextlib.asynccontextmanager
    async def engine(
        self, *, lock_wait_s: float = 5.0, recorder: Recorder | None = None
    ) -> AsyncIterator[PrepareEngine]:
        settings = EngineSettings(
            node=NODE,
            state_folder=self.folder / "state",
            cdi_folder=self.folder / "cdi",
            lock_wait_s=lock_wait_s,
        )
        engine = PrepareEngine(
            settings,
            claims=self.claims,
            claims_here=self.claims if self.quick else None,
            pod_resources=self.kubelet,
            cards=self.cards,
            recorder=recorder,
        )
        await engine.start()
        await engine.restore()
        try:
            yield engine
        finally:
            await engine.close()

    def add(self, *objects: JSON) -> None:
        self.claims.put(*objects)

    @property
    def records(self) -> list[str]:
        """Names of all files of the records' folder."""
        return sorted(path.name for path in (self.folder / "state" / "claims").iterdir())

    @property
    def cdi_files(self) -> list[Path]:
        return sorted((self.folder / "cdi").glob("*")) if (self.folder / "cdi").exists() else []

    @property
    def regions(self) -> list[Path]:
        return sorted(self.cards.region.glob("*"))

    def spec(self, found: JSON) -> JSON:
        """The CDI spec document of a claim."""
        path = self.folder / "cdi" / f"dragoman.dev-share-{found['metadata']['uid']}.json"
        document: JSON = json.loads(path.read_text())
        return document

    def env(self, found: JSON) -> set[str]:
        """All environment that the claim's CDI devices set."""
        devices = self.spec(found)["devices"]
        return {entry for device in devices for entry in device["containerEdits"].get("env", [])}


async def prepare(engine: PrepareEngine, found: JSON) -> PreparedClaim:
    """Prepares one claim or raises its refusal."""
    answer = (await engine.prepare([ref(found)]))[found["metadata"]["uid"]]
    if isinstance(answer, DragomanError):
        raise answer
    return answer


async def unprepare(engine: PrepareEngine, found: JSON) -> None:
    """Unprepares one claim or raises its refusal."""
    refused = (await engine.unprepare([ref(found)]))[found["metadata"]["uid"]]
    if refused is not None:
        raise refused
