"""Quotas of a replay: those of the file, and all that was admitted since.

Flow: a quota whose status says what is used is taken at its word, but for promises that have ended and whose
claims are not in the file; for any other the claims of the file are counted. Each admitted claim is reserved
by `controller.quota`, as the webhook does it, and counted at once.

Limits: in memory. A claim that is deleted in the course of a replay gives back what it took when it was
admitted there; claims of the file stay counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from controller.quota.charges import Charges
from controller.quota.quotas import Quotas
from controller.quota.store import MemoryStore
from controller.quota.translating import Translation, groups_of
from driver.api.base import decode
from driver.api.quota import AcceleratorQuotaSpec, QuotaAmounts
from driver.conversion import ConversionSettings
from driver.errors import DragomanError
from driver.quota.amounts import NOTHING, Charge, charge_of_document, document_of
from driver.quota.asks import ask_of, drivers_of
from driver.quota.charging import Scope, charge_of
from driver.quota.ledger import read_ledger, written_left_s, written_status
from driver.quota.stock import Stock
from tooling.replay.admit_scene import Scene

JSON = dict[str, Any]


class ReplayQuotas:
    """Holds claims against quotas; implements `controller.admission.knowledge.Reserve`."""

    def __init__(
        self,
        scene: Scene,
        *,
        class_is_ours: Callable[[Mapping[str, Any]], bool],
        carried: bool,
        conversion: ConversionSettings | None,
    ) -> None:
        """Takes the quotas of a file."""
        self._stock = Stock(class_is_ours=class_is_ours)
        for node, cards in scene.cards.items():
            self._stock.put(node, cards)
        for document in scene.classes.values():
            self._stock.put_class(document)
        self._carried = carried
        self._store = MemoryStore()
        for quota in (*scene.quotas, *_translated(scene, conversion)):
            self._store.put(self._counted(quota, scene))
        self._quotas = Quotas(self._store, charges=Charges(self._stock), carried=carried)
        self._admitted: dict[tuple[str, str, str], dict[str, Charge]] = {}

    async def reserve(
        self,
        *,
        namespace: str,
        uid: str,
        name: str,
        claim: Mapping[str, Any],
        dry_run: bool,
        request: str = "",
    ) -> None:
        """Takes what a claim asks for out of the quotas of its namespace.

        Raises:
            DragomanError: One of them does not have it.
        """
        namespace = namespace or "default"
        key = (namespace, name, uid)
        if key in self._admitted:
            # The API server asks twice about one object where its first answer was lost.
            return
        before = self._used(namespace)
        await self._quotas.reserve(
            namespace=namespace, uid=uid, name=name, claim=claim, dry_run=dry_run, request=request
        )
        if dry_run:
            return
        await self._settle(namespace)
        after = self._used(namespace)
        self._admitted[key] = {one: after[one] - before[one] for one in after}

    async def advise(self, namespace: str, specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        """What quotas will say to claims of these specs."""
        return await self._quotas.advise(namespace=namespace, specs=specs)

    async def released(self, *, namespace: str, name: str) -> None:
        """Gives back what a claim took that was admitted in this replay."""
        for key in [key for key in self._admitted if key[:2] == (namespace, name)]:
            taken = self._admitted.pop(key)
            for document in self._store.known(namespace):
                left = _used(document) - taken.get(document["metadata"]["name"], NOTHING)
                await self._store.write_status(
                    {**document, "status": {**document["status"], "used": document_of(left)}}
                )

    async def _settle(self, namespace: str) -> None:
        """Counts what was reserved: nothing is on its way here."""
        for document in self._store.known(namespace):
            status = document.get("status") or {}
            if status.get("reservations"):
                await self._store.write_status({**document, "status": {**status, "reservations": []}})

    def _used(self, namespace: str) -> dict[str, Charge]:
        return {one["metadata"]["name"]: _used(one) for one in self._store.known(namespace)}

    def _counted(self, quota: JSON, scene: Scene) -> JSON:
        metadata = {"namespace": "default", **(quota.get("metadata") or {})}
        quota = {**quota, "metadata": metadata}
        if (quota.get("status") or {}).get("used") is not None:
            return _without_ended(quota, scene)
        scope = Scope.of(decode(AcceleratorQuotaSpec, quota.get("spec") or {}, field="spec"))
        total = NOTHING
        for claim in scene.claims:
            if ((claim.get("metadata") or {}).get("namespace") or "default") != metadata["namespace"]:
                continue
            ask = ask_of(claim, carried=self._carried)
            total += charge_of(ask, scope=scope, stock=self._stock, given=drivers_of(claim)).charge
        return {**quota, "status": {"used": document_of(total)}}


def _without_ended(quota: JSON, scene: Scene) -> JSON:
    """A quota as the controller leaves it within a minute: promises to claims that never came are over."""
    try:
        _, ledger = read_ledger(quota)
    except DragomanError:
        return quota
    stored = {str((one.get("metadata") or {}).get("uid") or "") for one in scene.claims}
    now = datetime.now(UTC)
    kept = tuple(one for one in ledger.reservations if one.uid in stored or written_left_s(one, now=now) > 0)
    return {**quota, "status": written_status(replace(ledger, reservations=kept), quota)}


def _used(document: Mapping[str, Any]) -> Charge:
    used = (document.get("status") or {}).get("used")
    return charge_of_document(None if used is None else decode(QuotaAmounts, used, field="status.used"))


def _translated(scene: Scene, conversion: ConversionSettings | None) -> list[JSON]:
    if conversion is None:
        return []
    translation = Translation(groups_of(conversion))
    found: list[JSON] = []
    for document in scene.resource_quotas:
        metadata = {"namespace": "default", **(document.get("metadata") or {})}
        quota = translation.hard_of({**document, "metadata": metadata})
        found += [] if quota is None else translation.wanted(quota)
    return found
