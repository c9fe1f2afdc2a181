"""What the pods and claims of a manifest would get now, one after the other.

Flow: `missing_objects` says which claims and templates have to be read from the cluster; `simulation`
decides about the pods by priority and then in the file's order, each on what those before it leave -> a JSON
document.

Limits: pure, and nothing is created. It is one look: others may be quicker. Admission (policies, webhooks,
quotas) is not asked. kube-scheduler chooses among nodes by rules of its own, so in mode native the node is an
example; processor, memory and pods of other workloads on a node are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.cli.facts import CONTROLLER, Facts, cards_of
from controller.cli.manifest import Manifest
from controller.cli.objects import Entry, entries_of
from controller.cli.question import Classes, Kind, answer_of, asked
from controller.cli.rules import Question, Rules
from controller.cli.shares import Share, shares_of
from controller.cli.world import World, world_of
from driver.allocation.cluster import Cluster
from driver.allocation.placement import PlacementPolicy, place
from driver.errors import DragomanError
from driver.kube.client import JSON

Key = tuple[str, str]


@dataclass(slots=True)
class Stored:
    """What the manifest names and the cluster has; None for what it has not.

    Attributes:
        claims: ResourceClaims by namespace and name.
        templates: ResourceClaimTemplates by namespace and name.
    """

    claims: dict[Key, JSON | None] = field(default_factory=dict)
    templates: dict[Key, JSON | None] = field(default_factory=dict)


def missing_objects(manifest: Manifest) -> Stored:
    """Keys of claims and templates that pods name and the file does not hold; claims of the file as well."""
    found = Stored()
    # One of this name that is allocated already stays what it is.
    found.claims = dict.fromkeys(manifest.claims)
    for pod in manifest.pods:
        namespace = str(pod["metadata"]["namespace"])
        for one in entries_of(pod):
            if one.template and (namespace, one.template) not in manifest.templates:
                found.templates[namespace, one.template] = None
            elif one.name and not one.template:
                found.claims[namespace, one.name] = None
    return found


def simulation(
    manifest: Manifest, stored: Stored, facts: Facts, rules: Rules, *, everything: bool = False
) -> JSON:
    """Decides about everything in a manifest.

    Args:
        manifest: The file.
        stored: What the cluster has of what the file names.
        facts: The cluster.
        rules: What other parts know.
        everything: List every card where something does not fit.
    """
    return _Simulation(manifest, stored, facts, rules, everything=everything).document()


class _RefusedError(Exception):
    """A pod cannot come to a decision."""

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.remedy = reason, message, remedy


class _Simulation:
    def __init__(
        self, manifest: Manifest, stored: Stored, facts: Facts, rules: Rules, *, everything: bool
    ) -> None:
        self._manifest = manifest
        self._stored = stored
        self._facts = facts
        self._rules = rules
        self._everything = everything
        self._world = world_of(facts, rules, classes=manifest.classes)
        self._cluster: Cluster | None = None
        self._classes = Classes([*facts.classes, *manifest.classes], rules)
        self._policy = _policy(facts)
        self._given: dict[Key, JSON] = {}
        self._given_shares: list[JSON] = []

    def document(self) -> JSON:
        steps = [self._step(pod, number) for number, pod in enumerate(_in_turn(self._manifest.pods), start=1)]
        named = {key for pod in self._manifest.pods for key in _claims_named(pod)}
        for key in self._manifest.claims:
            if key not in named:
                steps.append(self._alone(key, len(steps) + 1))
        refused = [one for one in steps if one["outcome"] == "Refused"]
        passed = [f"{number} {kind}" for kind, number in sorted(self._manifest.passed_over.items())]
        return {
            "fits": not refused,
            "mode": self._facts.mode,
            "decided": len(steps),
            "refused": len(refused),
            "passedOver": passed,
            "steps": steps,
            "missingRights": list(self._facts.missing),
        }

    def _step(self, pod: JSON, number: int) -> JSON:
        metadata = pod["metadata"]
        notes: list[str] = []
        gates = [str(one.get("name")) for one in pod["spec"].get("schedulingGates") or []]
        if gates:
            notes.append(
                f"It is held by the scheduling gate {', '.join(gates)}; this is what it gets after that."
            )
        try:
            found = self._decided(pod, notes)
        except (_RefusedError, DragomanError) as refused:
            found = _refusal(refused)
        return {
            "number": number,
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "notes": notes,
            **found,
        }

    def _alone(self, key: Key, number: int) -> JSON:
        notes = ["No pod of the file uses it: it is allocated when one does. This is what it would get now."]
        try:
            existing = self._stored.claims.get(key)
            claim = existing or self._manifest.claims[key]
            found = self._placed(None, [(key, claim, existing is not None)], notes)
        except (_RefusedError, DragomanError) as refused:
            found = _refusal(refused)
        named = {"number": number, "kind": "ResourceClaim", "namespace": key[0], "name": key[1]}
        return {**named, "notes": notes, **found}

    def _decided(self, pod: JSON, notes: list[str]) -> JSON:
        namespace = str(pod["metadata"]["namespace"])
        entries = entries_of(pod)
        claims = [self._claim(one, pod, namespace) for one in entries]
        classes = [*self._facts.classes, *self._manifest.classes]
        special = self._rules.extended(pod, classes, carried=self._facts.names_carried)
        if special is not None:
            if self._facts.allocating == CONTROLLER:
                notes.append("Dragoman's webhook makes a claim of the extended resources it asks for.")
            name = f"{pod['metadata']['name']}-extended-resources"
            claims.append(
                ((namespace, name), {**special, "metadata": {"name": name, "namespace": namespace}}, False)
            )
        if not claims:
            return {
                "outcome": "NothingAsked",
                "words": "It asks for no claims and no extended resources of ours.",
            }
        return self._placed(pod, claims, notes)

    def _claim(self, entry: Entry, pod: JSON, namespace: str) -> tuple[Key, JSON, bool]:
        """A pod's claim, with whether it (or its template) comes from the API server."""
        if entry.template:
            key = (namespace, entry.template)
            stored = key not in self._manifest.templates
            template = self._stored.templates.get(key) if stored else self._manifest.templates[key]
            if template is None:
                raise _RefusedError(
                    "TemplateMissing",
                    f"No ResourceClaimTemplate {entry.template} is in the file or in namespace {namespace}.",
                    "Add it to the file, or create it first.",
                )
            name = f"{pod['metadata']['name']}-{entry.entry}"
            inner = template["spec"]
            metadata = {**(inner.get("metadata") or {}), "name": name, "namespace": namespace}
            return (namespace, name), {"metadata": metadata, "spec": inner["spec"]}, stored
        key = (namespace, entry.name)
        if key in self._given:
            return key, self._given[key], False
        existing = self._stored.claims.get(key)
        if existing is not None:
            return key, existing, True
        if key not in self._manifest.claims:
            raise _RefusedError(
                "ClaimMissing",
                f"No ResourceClaim {entry.name} is in the file or in namespace {namespace}.",
                "Add it to the file, or create it first.",
            )
        return key, self._manifest.claims[key], False

    def _placed(self, pod: JSON | None, claims: Sequence[tuple[Key, JSON, bool]], notes: list[str]) -> JSON:
        waiting: list[tuple[Key, JSON]] = []
        shares: list[Share] = []
        others = 0
        for key, claim, stored in claims:
            if (claim.get("status") or {}).get("allocation"):
                held = shares_of(claim)
                shares += held
                others += not held
                continue
            kind = self._classes.kind_of(claim)
            if kind in (Kind.OTHERS, Kind.NOTHING):
                others += 1
                continue
            if kind is Kind.MIXED:
                raise _RefusedError(
                    "MixedDrivers",
                    f"Claim {key[1]} asks for devices of this driver and of others at once, which cannot be "
                    "simulated and which mode controller does not allocate.",
                    "Make a claim for each driver; a pod may have several.",
                )
            # A claim of the API server has been through the webhook, one of the file has not yet.
            waiting.append((key, asked(claim, self._classes, facts=self._facts, stored=stored)))
        if others:
            notes.append("Claims for devices of other drivers are passed over.")
        if not waiting:
            if not shares:
                return {"outcome": "NothingAsked", "words": "It asks for no card of ours."}
            return {"outcome": "Fits", "node": shares[0].node, "nodes": 1, "shares": self._told(shares)}
        nodes, left = self._world.for_pod(pod, pinned=[one.node for one in shares if one.node])
        return self._choice(waiting, nodes, left, shares, notes)

    def _choice(
        self,
        waiting: Sequence[tuple[Key, JSON]],
        nodes: Sequence[str],
        left: Sequence[Any],
        shares: list[Share],
        notes: list[str],
    ) -> JSON:
        documents = [claim for _, claim in waiting]
        if not nodes:
            answer = answer_of(self._current(), documents, [], everything=self._everything, left_out=left)
            return {"outcome": "Refused", "reason": "NoNode", "words": answer["headline"], "answer": answer}
        cluster = self._asked_cluster()
        decision = place(
            cluster, claims=documents, policy=self._policy, nodes=nodes, release=self._world.release
        )
        if decision.allocations is None:
            answer = answer_of(self._current(), documents, nodes, everything=self._everything, left_out=left)
            reason = answer["reason"] or (decision.refusal.reason if decision.refusal is not None else "")
            words = answer["headline"]
            if answer["fits"] and decision.refusal is not None:
                words = decision.refusal.summary()
            return {"outcome": "Refused", "reason": reason, "words": words, "answer": answer}
        said = self._rules.remark(
            Question(
                snapshot=self._world.snapshot,
                claims=documents,
                classes=[*self._manifest.classes, *self._facts.classes],
            )
        )
        if said is not None and said.everywhere:
            return {"outcome": "Refused", "reason": said.reason, "words": said.note, "answer": None}
        if said is not None:
            notes.append(said.note)
        feasible = set(cluster.answers(documents, release=self._world.release).feasible)
        self._take(waiting, decision.allocations)
        given = [share for key, _ in waiting for share in shares_of(self._given[key])]
        return {
            "outcome": "Fits",
            "node": decision.node,
            "nodes": len(feasible & set(nodes)) or 1,
            "shares": self._told([*shares, *given]),
        }

    def _asked_cluster(self) -> Cluster:
        if self._cluster is None:
            self._cluster = self._world.cluster()
        return self._cluster

    def _take(self, waiting: Sequence[tuple[Key, JSON]], allocations: Sequence[Mapping[str, Any]]) -> None:
        """Counts what was given, for those that come after."""
        changed = []
        for (key, claim), allocation in zip(waiting, allocations, strict=True):
            metadata = {**claim["metadata"], "uid": f"simulated/{key[0]}/{key[1]}"}
            given = {"metadata": metadata, "spec": claim["spec"], "status": {"allocation": dict(allocation)}}
            self._given[key] = given
            changed.append(given)
        self._given_shares += changed
        self._cluster = self._asked_cluster().with_claims(changed=changed)

    def _current(self) -> World:
        """The world as those before have left it."""
        facts = self._facts
        snapshot = self._world.snapshot if self._cluster is None else self._cluster.snapshot
        after = Facts(
            version=facts.version,
            inventories=facts.inventories,
            slices=facts.slices,
            claims=[*facts.claims, *self._given_shares],
            classes=[*self._manifest.classes, *facts.classes],
            parts=facts.parts,
            nodes=facts.nodes,
            missing=facts.missing,
            lacking=facts.lacking,
        )
        return World(
            snapshot=snapshot,
            nodes=self._world.nodes,
            left_out=self._world.left_out,
            release=self._world.release,
            rules=self._rules,
            facts=after,
        )

    def _told(self, shares: Sequence[Share]) -> list[JSON]:
        told = []
        for one in shares:
            cards = cards_of(self._facts.inventories.get(one.node) or {})
            card = next((each for each in cards if each.get("name") == one.device), {})
            told.append({**one.to_json(), "words": one.words(), "model": str(card.get("model") or "")})
        return told


def _refusal(refused: _RefusedError | DragomanError) -> JSON:
    words = (
        str(refused) if isinstance(refused, DragomanError) else f"{refused.message} {refused.remedy}".strip()
    )
    return {"outcome": "Refused", "reason": refused.reason, "words": words, "answer": None}


def _in_turn(pods: Sequence[JSON]) -> list[JSON]:
    def priority(pod: JSON) -> int:
        found = pod["spec"].get("priority")
        return found if isinstance(found, int) else 0

    return sorted(pods, key=lambda pod: -priority(pod))


def _claims_named(pod: JSON) -> Iterator[Key]:
    for one in entries_of(pod):
        if one.name and not one.template:
            yield str(pod["metadata"]["namespace"]), one.name


def _policy(facts: Facts) -> PlacementPolicy:
    """The controller's placement policy, where it decides; kube-scheduler's first fit elsewhere."""
    if facts.allocating != CONTROLLER:
        return PlacementPolicy()
    settings = facts.settings
    words = {
        name: settings[f"DRAGOMAN_PLACEMENT_{name.upper()}"]
        for name in ("nodes", "cards", "topology")
        if settings.get(f"DRAGOMAN_PLACEMENT_{name.upper()}")
    }
    try:
        return PlacementPolicy.parse(words)
    except DragomanError:
        # A newer controller may know words that we do not.
        return PlacementPolicy()
