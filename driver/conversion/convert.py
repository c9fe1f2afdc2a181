"""The two verbs: a pod's patch at admission, and its claim templates afterwards.

Flow: `convert`: names and amounts of all containers -> plan -> record, patch, templates. `templates_of`: the
record of the stored pod -> the same plan -> the same templates.

Limits: one claim for a pod. Nothing is read but the arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driver.conversion import hints, patching
from driver.conversion.containers import Container, containers_of
from driver.conversion.errors import ConversionError, ConvertedPodError, LegacyAmountError
from driver.conversion.marks import CONVERTED_ANNOTATION, CONVERTED_LABEL, opted_out
from driver.conversion.names import ClassOf
from driver.conversion.places import Place, in_the_pod, sentence_for_the_pod
from driver.conversion.plan import Plan, plan_of
from driver.conversion.record import Record, read, written
from driver.conversion.settings import ConversionSettings
from driver.conversion.stock import Stock
from driver.errors import QuantityError
from driver.quantities import parse_quantity

JSON = dict[str, Any]

_CLAIM = "dragoman"
_MOST_CONTAINERS = 256
"""A pod has 32 cards at most, so beyond this only a pod of somebody hostile has more to read."""
_MIRROR = "kubernetes.io/config.mirror"
"""Annotation of the image of a pod that a kubelet runs from a file: nothing in it could be changed."""


_SYSTEM = "kubernetes.io/os"


def _no_class(_resource: str) -> None:
    """Names stand for no class."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What becomes of a pod.

    Attributes:
        patch: RFC 6902 operations on the pod as it came; nothing but what changes.
        templates: The ResourceClaimTemplates that the patched pod names, whole but for namespace and owner;
            none if the pod asks for no card after all.
        warnings: Sentences for whoever made the pod.
        places: Where each request of the template comes from, in their order.
    """

    patch: tuple[JSON, ...]
    templates: tuple[JSON, ...]
    warnings: tuple[str, ...] = ()
    places: tuple[Place, ...] = field(default=(), compare=False, repr=False)

    def in_the_pod(self, field: str) -> str:
        """The path in the pod for a path in its template."""
        return in_the_pod(field, self.places)

    def told_of_the_pod(self, sentence: str) -> str:
        """A sentence about the template, with the path in the pod in front."""
        return sentence_for_the_pod(sentence, self.places)


def names_of(settings: ConversionSettings) -> frozenset[str]:
    """All names of extended resources that are converted, as this cluster calls them."""
    return settings.catalogue.names


def convert(
    pod: Mapping[str, Any],
    *,
    identity: str,
    settings: ConversionSettings,
    stock: Stock,
    classes: Mapping[str, str],
    class_of: ClassOf = _no_class,
) -> Conversion | None:
    """Converts a pod that is being created.

    Args:
        pod: The Pod as admission got it.
        identity: UID of the admission request: it makes the template's name unique, since the pod may have
            neither name nor UID yet.
        settings: How amounts are read.
        stock: The cluster's cards.
        classes: DeviceClasses by the `extendedResourceName` that they claim.
        class_of: Which DeviceClass a name stands for that is to be served here; where kube-scheduler
            allocates, it serves such names itself.

    Returns:
        None if the pod asks for none of the names, was converted already, is not to be converted, or is one
        for Windows.

    Raises:
        ConversionError: It cannot be converted as it is.
    """
    catalogue = settings.catalogue
    if not _asks(pod, lambda name: name in catalogue.names or bool(catalogue.class_of(name, class_of))):
        return None
    metadata, spec = _object(pod, "metadata"), _object(pod, "spec")
    labels, annotations = _object(metadata, "labels"), _object(metadata, "annotations")
    if opted_out(labels) or _MIRROR in annotations or _for_windows(spec):
        return None
    if CONVERTED_ANNOTATION in annotations or CONVERTED_LABEL in labels:
        raise ConvertedPodError(
            "The pod was converted, and asks for extended resources again.",
            field="metadata",
            remedy=f"Remove the label {CONVERTED_LABEL}, the annotation {CONVERTED_ANNOTATION} and the claim "
            "of the conversion in spec.resourceClaims.",
        )
    containers = list(containers_of(spec))
    served = _served(_names(containers), settings, class_of)
    names = catalogue.names | served.keys()
    asked = _asked(containers, names)
    plan = plan_of(pod, asked, settings=settings, stock=stock, served=served)
    patch = [step for one in containers for step in patching.without_amounts(one, names)]
    if not plan.uses:
        return Conversion(patch=tuple(patch), templates=(), warnings=tuple(plan.warnings))
    if not settings.named_nodes:
        _check_place(spec)
    template = f"dragoman-{hashlib.sha256(identity.encode()).hexdigest()[:20]}"
    record = written(Record(template=template, asked=_kept(asked, plan)))
    claim = _free_name(spec)
    for one in containers:
        if one.name in plan.uses:
            patch += patching.with_claims(one, claim=claim, requests=plan.uses[one.name])
    patch += patching.with_claim(spec, claim=claim, template=template)
    if not pod.get("metadata"):
        patch.append({"op": "add", "path": "/metadata", "value": {}})
    patch.append(patching.with_mark(metadata, kind="labels", key=CONVERTED_LABEL, value="true"))
    patch.append(patching.with_mark(metadata, kind="annotations", key=CONVERTED_ANNOTATION, value=record))
    patch += _scheduler(spec, settings=settings, plan=plan)
    # No more than can be told: looking for the nearest of many names takes long.
    said = _hints(containers, annotations, asked, settings=settings, served=served, classes=classes)
    plan.warn_while_there_is_room(said)
    return Conversion(
        patch=tuple(patch),
        templates=(_template(template, plan),),
        warnings=tuple(plan.warnings),
        places=tuple(plan.places),
    )


def templates_of(
    pod: Mapping[str, Any], *, settings: ConversionSettings, stock: Stock, class_of: ClassOf = _no_class
) -> tuple[JSON, ...]:
    """The claim templates of a converted pod, worked out from what it asked for before.

    Args:
        pod: The pod as it is stored.
        settings: How amounts are read.
        stock: The cluster's cards.
        class_of: Which DeviceClass of ours a name stands for, whoever allocates by now.

    Raises:
        ConversionError: Its annotation is not what conversion writes, or what it asked for cannot be
            converted with these cards.
    """
    catalogue = settings.catalogue
    record = read(pod, known=lambda name: name in catalogue.names or bool(catalogue.class_of(name, class_of)))
    names = {name for amounts in record.asked.values() for name in amounts}
    served = _served(names, settings, class_of)
    plan = plan_of(pod, record.asked, settings=settings, stock=stock, served=served)
    return (_template(record.template, plan),) if plan.uses else ()


def _for_windows(spec: Mapping[str, Any]) -> bool:
    """Whether the pod runs on nodes that have no agent, so that only a device plugin can serve it."""
    system, selector = _object(spec, "os"), _object(spec, "nodeSelector")
    return "windows" in (system.get("name"), selector.get(_SYSTEM))


def _served(names: Iterable[str], settings: ConversionSettings, class_of: ClassOf) -> dict[str, str]:
    """The names that stand for a class."""
    found = {name: settings.catalogue.class_of(name, class_of) for name in names}
    return {name: one for name, one in found.items() if one}


def _names(containers: Sequence[Container]) -> set[str]:
    return {name for one in containers for part in ("limits", "requests") for name in one.amounts(part)}


def _asks(pod: Mapping[str, Any], known: Callable[[str], bool]) -> bool:
    # Most pods end here, so nothing is made on the way.
    try:
        spec = pod["spec"]
        for kind in ("containers", "initContainers"):
            for one in spec.get(kind) or ():
                resources = one.get("resources")
                if resources and (
                    any(map(known, resources.get("limits") or ()))
                    or any(map(known, resources.get("requests") or ()))
                ):
                    return True
    except (AttributeError, KeyError, TypeError):
        # No pod that the API server would store; it says so itself.
        return False
    return False


def _asked(containers: Sequence[Container], names: Collection[str]) -> dict[str, dict[str, object]]:
    asked: dict[str, dict[str, object]] = {}
    for one in containers:
        limits, requests = one.amounts("limits"), one.amounts("requests")
        mine = {name: value for name, value in limits.items() if name in names}
        for name, value in requests.items():
            if name not in names:
                continue
            if name not in limits or not _same(limits[name], value):
                raise LegacyAmountError(
                    "Requests of extended resources have to be the limits."
                    if name in limits
                    else "An extended resource needs a limit.",
                    field=f"{one.path}.resources.requests[{name}]",
                    remedy="Write the limit alone: it is the request too.",
                )
        if mine:
            if one.name in asked or not one.name:
                raise ConversionError("Containers need names, each another one.", field=f"{one.path}.name")
            asked[one.name] = mine
        if len(asked) > _MOST_CONTAINERS:
            raise ConversionError(
                f"More than {_MOST_CONTAINERS} containers ask for extended resources.",
                field=one.path,
                remedy="Divide the pod.",
            )
    return asked


def _same(limit: object, request: object) -> bool:
    if str(limit) == str(request):
        return True
    try:
        return parse_quantity(str(limit)) == parse_quantity(str(request))
    except QuantityError:
        return False


def _kept(asked: Mapping[str, Mapping[str, object]], plan: Plan) -> dict[str, dict[str, object]]:
    return {name: dict(amounts) for name, amounts in asked.items() if name in plan.uses}


def _check_place(spec: Mapping[str, Any]) -> None:
    if spec.get("nodeName"):
        raise ConversionError(
            "The pod goes past kube-scheduler, so nobody would give it a card.",
            field="spec.nodeName",
            remedy=f"Write nodeSelector: {{kubernetes.io/hostname: {str(spec['nodeName'])[:253]}}} instead.",
        )


def _free_name(spec: Mapping[str, Any]) -> str:
    taken = {one.get("name") for one in spec.get("resourceClaims") or () if isinstance(one, Mapping)}
    if _CLAIM not in taken:
        return _CLAIM
    return next(name for number in range(2, len(taken) + 3) if (name := f"{_CLAIM}-{number}") not in taken)


def _scheduler(spec: Mapping[str, Any], *, settings: ConversionSettings, plan: Plan) -> list[JSON]:
    name = spec.get("schedulerName")
    if name not in settings.schedulers:
        return []
    instead = settings.schedulers[str(name)]
    plan.warn(hints.of_scheduler(str(name), instead=instead))
    if not instead:
        return []
    return [{"op": "replace", "path": patching.pointer("spec", "schedulerName"), "value": instead}]


def _hints(
    containers: Sequence[Container],
    annotations: Mapping[str, object],
    asked: Mapping[str, Mapping[str, object]],
    *,
    settings: ConversionSettings,
    served: Collection[str],
    classes: Mapping[str, str],
) -> Iterable[str]:
    catalogue = settings.catalogue
    yield from hints.of_annotations(annotations)
    for name in sorted({name for amounts in asked.values() for name in amounts}):
        if name in classes and name not in served:
            ours = catalogue.roles[name][0].vendor.device_class
            yield hints.of_class(name, other=classes[name], ours=ours)
    for one in containers:
        yield from hints.of_neighbours(one, catalogue, {*served, *classes})


def _template(name: str, plan: Plan) -> JSON:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": plan.devices}},
    }


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name) or {}
    if not isinstance(found, Mapping):
        raise ConversionError("This is not an object.", field=name)
    return found
