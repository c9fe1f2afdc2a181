"""The claims' way, one after the other: allocate, write the allocation, prepare over gRPC.

Flow: cards -> slices -> for each claim `driver.allocation.allocate` on what the earlier ones left; an
allocated claim is written, with its pod, where the agent reads claims; the agent prepares it.

Limits: the decision is `driver.allocation`'s alone. Nothing here compares amounts or matches selectors.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driver.allocation import Refusal, Snapshot, allocate
from driver.cards import DRIVER_NAME, Card
from driver.quantities import MIB, parse_quantity
from driver.slices import publication_of, with_generation
from tooling.demo.agent import Agent, Answer, Folders, Ref
from tooling.demo.manifests import Asked
from tooling.demo.picture import CardUse, Holding

JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What became of one claim: refused, or allocated and prepared."""

    asked: Asked
    refusal: Refusal | None = None
    results: tuple[JSON, ...] = ()
    answer: Answer | None = None


class Story:
    """The state of the demonstration's cluster."""

    def __init__(
        self, *, node: str, cards: Sequence[Card], classes: Sequence[JSON], folders: Folders, agent: Agent
    ) -> None:
        self._node = node
        self._cards = {card.name: card for card in cards}
        self._classes = classes
        self._folders = folders
        self._agent = agent
        self._claims: list[JSON] = []
        self.slices = [with_generation(one, 1) for one in publication_of(cards, node=node).slices]

    def tell(self, asked: Asked) -> Told:
        """Allocates and prepares one claim."""
        snapshot = Snapshot.build(slices=self.slices, classes=self._classes, claims=self._claims)
        decision = allocate(snapshot, node=self._node, claims=[asked.claim])
        if decision.allocations is None:
            return Told(asked=asked, refusal=decision.refusal)
        claim = copy.deepcopy(asked.claim)
        claim["status"] = {
            "allocation": decision.allocations[0],
            "reservedFor": [
                {
                    "resource": "pods",
                    "name": asked.pod["metadata"]["name"],
                    "uid": asked.pod["metadata"]["uid"],
                }
            ],
        }
        self._claims.append(claim)
        self._store(claim, asked.pod)
        metadata = claim["metadata"]
        answer = self._agent.prepare(
            Ref(namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"])
        )
        return Told(asked=asked, results=tuple(_ours(claim)), answer=answer)

    def spec_of(self, asked: Asked) -> Path | None:
        """The CDI spec file that the agent wrote for a claim."""
        found = sorted(self._folders.cdi.glob(f"*{asked.claim['metadata']['uid']}*"))
        return found[0] if found else None

    def uses(self) -> list[CardUse]:
        """Who holds what, for the picture."""
        held: dict[str, list[Holding]] = {}
        for claim in self._claims:
            for result in _ours(claim):
                held.setdefault(result["device"], []).append(self._holding(claim, result))
        return [
            CardUse(
                device=card.name,
                title=f"{card.model} ({card.vendor})",
                memory_mib=card.memory_mib,
                holdings=tuple(held.get(card.name, ())),
                note=f"Not offered: {card.unpublished}" if card.unpublished else "",
            )
            for card in self._cards.values()
        ]

    def _holding(self, claim: Mapping[str, Any], result: Mapping[str, Any]) -> Holding:
        card = self._cards[result["device"]]
        consumed = result.get("consumedCapacity") or {}
        memory = (
            parse_quantity(consumed["memory"]).rounded_up // MIB if "memory" in consumed else card.memory_mib
        )
        cores = parse_quantity(consumed["cores"]).rounded_up if "cores" in consumed else 0
        return Holding(
            claim=f"{claim['metadata']['name']}/{result['request']}",
            memory_mib=memory,
            cores_percent=cores,
            whole=memory == card.memory_mib,
        )

    def _store(self, claim: JSON, pod: JSON) -> None:
        path = self._folders.claims / f"{claim['metadata']['name']}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [claim, pod]}, indent=2))
        partial.replace(path)


def _ours(claim: Mapping[str, Any]) -> list[JSON]:
    results = claim["status"]["allocation"]["devices"]["results"]
    return [result for result in results if result["driver"] == DRIVER_NAME]
