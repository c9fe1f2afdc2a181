"""Puts admission together: webhooks, what they know, the maker of templates, quotas.

Flow: `controller.app` calls `admitting` with what its other parts share, and runs what comes back.

Limits: starts nothing. Knows admission's parts only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from controller.admission.cluster import Cluster
from controller.admission.keeper import Keeper, KeeperSettings
from controller.admission.knowledge import Convert, Converted, Findings, Knowledge
from controller.admission.server import Admission
from controller.by_turns import Beside, ByTurns
from controller.converting.settings import conversion_settings
from controller.converting.templates import Templates
from controller.converting.views import ConvertedPod, converted_pod
from controller.events import Events
from controller.metrics import Metrics
from controller.publishing.views import Inventory
from controller.queue import WorkQueue
from controller.quota.books import ClaimView
from controller.quota.part import Quoting
from controller.quota.translating import groups_of
from controller.settings import CONTROLLER, Settings
from driver.api.policy import NamedPolicy
from driver.conversion import CONVERTED_LABEL, ConversionSettings, convert, templates_of
from driver.fleet import Fleet
from driver.kube.client import JSON, KubeClient
from driver.kube.informer import Informer, Selection
from driver.kube.resources import PODS
from driver.kube.store import Store, Watched
from driver.quota.stock import Stock
from driver.validation.validate import validate


@dataclass(frozen=True, kw_only=True)
class Around:
    """What admission is told by the rest of the controller.

    Attributes:
        inventories: AcceleratorNodes; the caller's informer.
        policies: AcceleratorPolicies that can be read; of the caller's informer.
        claims: ResourceClaims as quotas see them; of the caller's informer.
        claims_version: Resource version up to which they are known.
        classes: DeviceClasses, by `class_document`; of the caller's informer.
        held: Whether this replica leads at this moment.
        release: Kubernetes release of the API server; "" while it is not known.
        amounts_kept: Whether it keeps the amounts that claims ask for; None if not known yet.
        class_is_ours: Whether a DeviceClass picks only devices of our driver.
        standard: Whether a class of this name is ours even where it does not exist.
        events: Writes Events.
        metrics: Counts.
        offered: Whether a node offers an extended resource by itself, as by a device plugin.
        in_use: Whether pods use the cards of a claim (a UID) that is gone.
    """

    inventories: Informer[Inventory]
    policies: Watched[NamedPolicy]
    claims: Store[ClaimView]
    claims_version: Callable[[], int]
    classes: Store[JSON]
    held: Callable[[], bool]
    release: Callable[[], str]
    amounts_kept: Callable[[], bool | None]
    class_is_ours: Callable[[Mapping[str, Any]], bool]
    standard: Callable[[str], bool]
    events: Events
    metrics: Metrics
    offered: Callable[[str], bool] = lambda _resource: False
    in_use: Callable[[str], bool] = lambda _uid: False


@dataclass(frozen=True, kw_only=True)
class Admitting:
    """Admission's parts, wired.

    Attributes:
        admission: The webhooks.
        informers: What has to run, and to be synced before a webhook answers.
        quoting: Quotas.
        templates: Makes the templates of converted pods; None where none are converted.
        template_queue: Converted pods whose turn it is.
    """

    admission: Admission
    informers: tuple[Informer[Any], ...]
    quoting: Quoting
    templates: Templates | None
    template_queue: WorkQueue


def admitting(
    client: KubeClient,
    settings: Settings,
    *,
    namespace: str,
    around: Around,
    beside: Beside | None = None,
) -> Admitting:
    """Makes admission's parts and connects them; starts nothing.

    Args:
        client: The API server.
        settings: The settings.
        namespace: The controller's own.
        around: What admission is told by the rest of the controller.
        beside: Where objects are looked at that may take long; a thread of its own if None.

    Raises:
        ConfigError: How pods are to be converted cannot be read.
    """
    fleet = Fleet()
    beside = beside or ByTurns()
    cluster = Cluster(
        inventories=around.inventories,
        classes=around.classes,
        policies=around.policies,
        fleet=fleet,
        beside=beside,
        class_is_ours=around.class_is_ours,
        standard=around.standard,
        release=around.release,
        amounts_kept=around.amounts_kept,
        native=settings.mode != CONTROLLER,
        cards_may_come=settings.cards_may_come,
        offered=around.offered,
    )
    how = conversion_settings(settings.conversion)
    if how is not None:
        how = replace(how, named_nodes=settings.mode == CONTROLLER)
    quoting = Quoting(
        client,
        claims=around.claims,
        claims_version=around.claims_version,
        classes=around.classes,
        stock=Stock(class_is_ours=around.class_is_ours, fleet=fleet),
        # A ResourceQuota counts what pods ask for, and converted pods ask for nothing that it knows.
        groups=() if how is None else groups_of(how),
        carried=settings.mode == CONTROLLER,
        registry=around.metrics.registry,
        beside=beside,
        in_use=around.in_use,
    )
    templates, pods = None, None
    queue = WorkQueue(name="templates")
    if how is not None:
        pods = _converted_pods(client, queue)
        templates = Templates(
            client,
            pods,
            around.events,
            # Not `served`: what was converted stays so, whoever allocates by now.
            made_of=lambda pod: templates_of(
                pod, settings=how, stock=cluster.stock, class_of=cluster.class_of
            ),
            amounts_kept=around.amounts_kept,
            is_ours=cluster.is_ours,
        )
    knowledge = Knowledge(
        is_ours=cluster.is_ours,
        amounts_kept=around.amounts_kept,
        stamps=settings.mode == CONTROLLER,
        class_is_ours=around.class_is_ours,
        convert=None if how is None else _convert(cluster, how),
        validate=partial(_validate, cluster),
        quotas=quoting.quotas,
        advise=lambda where, specs: quoting.quotas.advise(namespace=where, specs=specs),
        beside=beside,
    )
    keeper = Keeper(
        client,
        KeeperSettings(
            namespace=namespace,
            secret=settings.webhook_secret,
            service=settings.webhook_service,
            configuration=settings.webhook_configuration,
            own=settings.webhook_own_certificates,
        ),
        folder=Path(tempfile.mkdtemp(prefix="webhook-")),
        held=around.held,
    )
    admission = Admission(
        keeper,
        knowledge,
        address=settings.listen,
        port=settings.webhook_port,
        answered=lambda outcome, seconds: around.metrics.admissions.labels(outcome=outcome).observe(seconds),
    )
    return Admitting(
        admission=admission,
        # Not `if pods`: a store that is empty yet is false.
        informers=(*quoting.informers, *([] if pods is None else [pods])),
        quoting=quoting,
        templates=templates,
        template_queue=queue,
    )


def _converted_pods(client: KubeClient, queue: WorkQueue) -> Informer[ConvertedPod]:
    # A pod that runs has had its claims made.
    waiting = Selection(label_selector=f"{CONVERTED_LABEL}=true", field_selector="status.phase=Pending")
    pods = Informer(client, PODS, converted_pod, name="converted pods", selection=waiting, page_size=100)
    pods.subscribe(lambda key, _before, _after: queue.add(key))
    return pods


def _convert(cluster: Cluster, how: ConversionSettings) -> Convert:
    def converted(pod: Mapping[str, Any], *, identity: str) -> Converted | None:
        return convert(
            pod,
            identity=identity,
            settings=how,
            stock=cluster.stock,
            classes=cluster.extended,
            class_of=cluster.served,
        )

    return converted


def _validate(
    cluster: Cluster, kind: str, found: Mapping[str, Any], *, old: Mapping[str, Any] | None = None
) -> Findings:
    return validate(kind, found, old=old, facts=cluster.facts())
