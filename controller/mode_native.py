"""Puts together what there is in mode native only: who explains what kube-scheduler finds no cards for.

Flow: `controller.app` calls `explaining` with what its other parts share, and runs what comes back.

Limits: starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from controller.events import Events
from controller.explaining.explainer import Explainer, Sources
from controller.explaining.views import UNSCHEDULED, ClaimView, ClassView, PodView, pod_view
from controller.mode import ModeState
from controller.publishing.stores import Stores
from controller.queue import WorkQueue
from controller.settings import Settings
from driver.kube.client import KubeClient
from driver.kube.informer import Informer, Selection
from driver.kube.resources import PODS
from driver.kube.store import Watched


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What explaining shares with the rest of the controller.

    Attributes:
        stores: What publishing knows.
        claims: The claims.
        classes: The DeviceClasses.
        mode: Gives what is known about native mode.
        queue: Takes pods that are to be looked at.
        events: Writes Events.
    """

    stores: Stores
    claims: Watched[ClaimView]
    classes: Watched[ClassView]
    mode: Callable[[], ModeState]
    queue: WorkQueue
    events: Events


def explaining(client: KubeClient, settings: Settings, shared: Shared) -> tuple[Explainer, Informer[PodView]]:
    """Makes the explainer and the informer of the pods that wait, and connects them; starts nothing."""
    pods = Informer(
        client,
        PODS,
        pod_view,
        name="waiting pods",
        selection=Selection(field_selector=UNSCHEDULED),
        page_size=50,
    )
    changes = _Changes()
    shared.claims.subscribe(changes.note)
    shared.classes.subscribe(changes.note)
    shared.stores.slices.subscribe(changes.note)
    explainer = Explainer(
        Sources(
            pods=pods,
            claims=shared.claims,
            classes=shared.classes,
            slices=shared.stores.slice_specs,
            nodes=shared.stores.nodes_with_slices,
            mode=shared.mode,
            changes=changes.count,
        ),
        shared.events,
        again_s=settings.explain_again,
        after_s=settings.explain_after,
    )
    pods.subscribe(lambda key, _before, _after: shared.queue.add(key, after_s=settings.explain_after))
    return explainer, pods


class _Changes:
    """Counts changes of several stores."""

    def __init__(self) -> None:
        self._count = 0

    def note(self, _key: str, _before: object, _after: object) -> None:
        self._count += 1

    def count(self) -> int:
        return self._count
