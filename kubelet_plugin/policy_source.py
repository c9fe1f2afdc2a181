"""Which AcceleratorPolicies hold on this node.

Flow: policies come from the API server (list and watch) or from a file; together with the node's labels they
make the `EffectivePolicy`. What of a policy cannot be used is left out and named among the problems
(`driver.api.policy_reading`): the rest, and the others, keep holding. A change of policies that go from node
to node waits for its turn (`policy_turns`).

Limits: the node's labels are read when a policy changes and every few minutes, not watched, so that the agent
needs no right to list nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from driver.api.base import API_VERSION
from driver.api.policy import EffectivePolicy, NamedPolicy, effective_policy
from driver.api.policy_reading import read_policy
from driver.api.rollout import PolicyChange
from driver.errors import ConfigError
from driver.kube.client import ApiError, KubeClient, NotFoundError
from driver.kube.informer import Informer
from driver.kube.resources import ACCELERATOR_NODES, ACCELERATOR_POLICIES, NODES
from kubelet_plugin.policy_turns import PolicyTurns

log = structlog.get_logger(__name__)

LABELS_EVERY_S = 300.0
_RETRY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class PolicyView:
    """What holds now.

    Attributes:
        policy: The policies laid over each other.
        problems: Sentences about policies that cannot be used.
        complete: False while the API server has not told yet: defaults stand in, and must not be published.
        change: A change of policies that waits for this node's turn, or the last one that did.
    """

    policy: EffectivePolicy
    problems: tuple[str, ...] = ()
    complete: bool = True
    change: PolicyChange | None = None


class PolicySource(Protocol):
    """Says which policy holds, and when that may have changed."""

    def view(self, *, cards: Collection[str] = ()) -> PolicyView:
        """What holds now; may read files.

        Args:
            cards: UUIDs of the node's cards.
        """

    async def run(self, changed: Callable[[], None]) -> None:
        """Follows the policies; calls `changed` whenever `view` may answer differently."""


class FilePolicySource:
    """Policies of a YAML file or of a folder of such files; none without a path."""

    def __init__(self, path: str, *, node_name: str) -> None:
        self._path = path
        self._labels = {"kubernetes.io/hostname": node_name}

    def view(self, *, cards: Collection[str] = ()) -> PolicyView:  # noqa: ARG002 - files hold at once
        """Reads the files again.

        Raises:
            ConfigError: The path does not exist, or a file is not YAML.
        """
        policies, problems = _decoded(_documents(Path(self._path)) if self._path else ())
        policy = effective_policy(policies, node_labels=self._labels)
        return PolicyView(policy=policy, problems=problems)

    async def run(self, changed: Callable[[], None]) -> None:
        """Files are read at each look; there is nothing to follow."""


class KubePolicySource:
    """Policies and the node's labels from the API server."""

    def __init__(self, client: KubeClient, *, node_name: str) -> None:
        self._client = client
        self._node_name = node_name
        self._labels: Mapping[str, str] | None = None
        self._restored = False
        self._turns = PolicyTurns()
        self._policies: Informer[dict[str, Any]] = Informer(client, ACCELERATOR_POLICIES, self._project)

    def view(self, *, cards: Collection[str] = ()) -> PolicyView:
        """What the API server said last; of what waits for this node's turn, what holds until then."""
        complete = self._policies.synced.is_set() and self._labels is not None and self._restored
        documents = list(self._policies.values())
        policies, problems = _decoded(documents)
        policy, change = effective_policy(policies, node_labels=self._labels or {}), None
        if complete:
            turns = {one["metadata"]["name"]: one["turn"] for one in documents}
            policy, change = self._turns.decide(policy, policies=policies, turns=turns, cards=cards)
        return PolicyView(policy=policy, problems=problems, complete=complete, change=change)

    async def run(self, changed: Callable[[], None]) -> None:
        """Watches policies and looks at the node's labels; ends only by being cancelled."""

        def differs(_key: str, before: object, after: object) -> None:
            # A policy's status changes with each node's turn, and each look asks all vendors.
            if before != after:
                changed()

        self._policies.subscribe(differs)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._policies.run(), name="policies")
            tasks.create_task(self._when_synced(changed), name="policies-synced")
            tasks.create_task(self._follow_labels(changed), name="node-labels")
            tasks.create_task(self._restore(changed), name="policy-in-force")

    async def _restore(self, changed: Callable[[], None]) -> None:
        while not self._restored:
            try:
                node = await self._client.get(ACCELERATOR_NODES, self._node_name)
            except NotFoundError:
                node = {}
            except ApiError as failed:
                log.warning("the policy in force cannot be read", error=str(failed))
                await asyncio.sleep(_RETRY_S)
                continue
            self._turns.restore(node.get("status") or {})
            self._restored = True
            changed()

    async def _when_synced(self, changed: Callable[[], None]) -> None:
        await self._policies.synced.wait()
        changed()

    async def _follow_labels(self, changed: Callable[[], None]) -> None:
        while True:
            try:
                node = await self._client.get(NODES, self._node_name)
            except ApiError as failed:
                log.warning("the node's labels cannot be read", error=str(failed))
                await asyncio.sleep(_RETRY_S)
                continue
            labels = node["metadata"].get("labels") or {}
            if labels != self._labels:
                self._labels = labels
                changed()
            await asyncio.sleep(LABELS_EVERY_S)

    def _project(self, document: dict[str, Any]) -> dict[str, Any]:
        turns = (document.get("status") or {}).get("turns") or []
        # A node has one turn of a policy.
        turn = next((one.get("number") for one in turns if one.get("node") == self._node_name), 0)
        name = document["metadata"]["name"]
        return {"metadata": {"name": name}, "spec": document.get("spec") or {}, "turn": turn}


def _decoded(documents: Iterable[Mapping[str, Any]]) -> tuple[list[NamedPolicy], tuple[str, ...]]:
    """The policies, and sentences about those that cannot be used."""
    policies: list[NamedPolicy] = []
    problems: list[str] = []
    for document in documents:
        name = str((document.get("metadata") or {}).get("name") or "")
        try:
            spec, misfits = read_policy(document.get("spec") or {})
        except ConfigError as invalid:
            problems.append(f"AcceleratorPolicy {name} is passed over: {invalid}")
            continue
        problems += (f"AcceleratorPolicy {name} holds but for a field: {misfit}" for misfit in misfits)
        policies.append(NamedPolicy(name=name, spec=spec))
    return policies, tuple(problems)


def _documents(path: Path) -> list[Mapping[str, Any]]:
    import yaml  # noqa: PLC0415 - the API server's policies need none

    files = (
        sorted(item for item in path.iterdir() if item.suffix in (".yaml", ".yml"))
        if path.is_dir()
        else [path]
    )
    found: list[Mapping[str, Any]] = []
    for file in files:
        try:
            documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError) as invalid:
            raise ConfigError(
                f"{file} cannot be read: {invalid}.", field="--policies-from", remedy="Write YAML manifests."
            ) from None
        for document in documents:
            if not isinstance(document, Mapping):
                continue
            if document.get("apiVersion") == API_VERSION and document.get("kind") == "AcceleratorPolicy":
                found.append(document)
    return found
