"""Metrics of quotas: limits, what is used of them, and reservations.

Limits: labelled by namespace and quota, of which there are as many as administrators made; every replica
tells the same, so take the greatest of them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from driver.errors import DragomanError
from driver.kube.client import JSON
from driver.quantities import MIB
from driver.quota.ledger import Ledger, read_ledger

_LABELS = ("namespace", "quota", "resource")


class Figures:
    """The metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._hard = Gauge(
            "dragoman_controller_quota_hard",
            "Limit of an AcceleratorQuota: memory in bytes, cores in percent, cards.",
            _LABELS,
            registry=registry,
        )
        self._used = Gauge(
            "dragoman_controller_quota_used",
            "What is used of an AcceleratorQuota, reservations included.",
            _LABELS,
            registry=registry,
        )
        self._reservations = Gauge(
            "dragoman_controller_quota_reservations",
            "Claims that were admitted and are not counted yet.",
            ("namespace", "quota"),
            registry=registry,
        )

    def note(self, key: str, document: JSON | None) -> None:
        """Takes over a quota, or that it is gone."""
        namespace, _, name = key.partition("/")
        try:
            ledger = read_ledger(document)[1] if document is not None else None
        except DragomanError:
            ledger = None
        for resource, hard, used in _rows(ledger):
            for gauge, value in ((self._hard, hard), (self._used, used)):
                if value is None:
                    gauge.remove_by_labels({"namespace": namespace, "quota": name, "resource": resource})
                else:
                    gauge.labels(namespace, name, resource).set(value)
        if ledger is None:
            self._reservations.remove_by_labels({"namespace": namespace, "quota": name})
        else:
            self._reservations.labels(namespace, name).set(len(ledger.reservations))


def _rows(ledger: Ledger | None) -> tuple[tuple[str, int | None, int | None], ...]:
    if ledger is None:
        return (("memory", None, None), ("cores", None, None), ("cards", None, None))
    hard, used = ledger.hard, ledger.used
    memory = None if hard.memory_mib is None else hard.memory_mib * MIB
    return (
        ("memory", memory, used.memory_mib * MIB),
        ("cores", hard.cores, used.cores),
        ("cards", hard.cards, used.cards),
    )
