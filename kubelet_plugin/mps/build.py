"""MPS in the agent: the method for shares and the look at what it holds, where settings name a supervisor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from driver.cards import Card, IsolationLevel
from driver.isolation.base import IsolationMethod
from driver.isolation.service import Service
from kubelet_plugin.metrics import Metrics
from kubelet_plugin.mps.client import MpsSupervised
from kubelet_plugin.mps.watch import MpsWatch
from kubelet_plugin.prepare.records import ClaimRecord
from kubelet_plugin.settings import Settings

_ROUNDS_S = 30.0
"""Some rounds of looks at processes, also slow ones."""


class MpsParts:
    """What the agent has of MPS; nothing where no folder is set."""

    def __init__(self, settings: Settings) -> None:
        self._node = MpsSupervised(Path(settings.mps_dir)) if settings.mps_dir else None
        self._holds_memory = settings.mps_memory == "per-process"
        deadline_s = settings.in_force_deadline_s
        # What is seen counts after one deadline, and what was being seen at the moment itself after one more.
        self._seen_anew_s = 2 * deadline_s + _ROUNDS_S if deadline_s > 0 else math.inf

    @property
    def methods(self) -> Mapping[IsolationLevel, IsolationMethod]:
        """The method, by its level."""
        if self._node is None:
            return {}
        service = Service(self._node, holds_memory=self._holds_memory)
        return {service.level: service}

    def watch(
        self,
        *,
        records: Callable[[], Iterable[ClaimRecord]],
        cards: Callable[[], Mapping[str, Card]],
        metrics: Metrics,
    ) -> MpsWatch | None:
        """The look at what MPS holds."""
        if self._node is None:
            return None
        return MpsWatch(
            self._node, records=records, cards=cards, metrics=metrics, seen_anew_s=self._seen_anew_s
        )
