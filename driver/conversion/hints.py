"""What else of HAMi and Volcano a pod says, which has no meaning here, or another one: told, not refused."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from driver.conversion.containers import Container
from driver.conversion.names import Catalogue

_MOST = 2
_LONGEST = 128
_PLACEMENT = "in mode controller the administrator sets one for all"
_UNKNOWN: Mapping[str, str] = {
    "hami.io/node-scheduler-policy": f"pods have no policy of their own: {_PLACEMENT}.",
    "hami.io/gpu-scheduler-policy": f"pods have no policy of their own: {_PLACEMENT}.",
    "volcano.sh/vgpu-podgroup-policy": f"pods have no policy of their own: {_PLACEMENT}.",
    "metax-tech.com/sgpu-topology-aware": "it has no effect here: cards are placed by one policy for all.",
    "metax-tech.com/sgpu-app-class": "it has no effect here: all shares of a card are equal.",
}


def of_annotations(annotations: Mapping[str, object]) -> Iterator[str]:
    """Annotations that are not kept to."""
    for key, sentence in _UNKNOWN.items():
        if key in annotations:
            yield f"metadata.annotations[{key}]: {sentence}"


def of_scheduler(name: str, *, instead: str) -> str:
    """The pod names a scheduler of HAMi's or Volcano's.

    Args:
        name: The scheduler.
        instead: Whom the pod is given to; "" if it stays.
    """
    if instead:
        return (
            f"spec.schedulerName: {name} would wait for its own resources; {instead} schedules the pod now."
        )
    return f"spec.schedulerName: {name} stays; it has to know claims (dynamic resource allocation)."


def of_class(name: str, *, other: str, ours: str) -> str:
    """A DeviceClass claims an extended resource that is converted."""
    return f"DeviceClass {other} stands for {name} too; the pod was converted once, to class {ours}."


def of_neighbours(container: Container, catalogue: Catalogue, served: Collection[str]) -> Iterator[str]:
    """Names that are almost those of the catalogue, and stay in the container.

    Args:
        container: The container.
        catalogue: The names.
        served: Names that are served though they are none of these, converted or by a class.
    """
    limits = container.amounts("limits")
    domains = {name.partition("/")[0] for name in limits if name in catalogue.names}
    strange = [
        name
        for name in limits
        if name not in catalogue.names
        and name not in served
        and name.partition("/")[0] in domains
        and len(name) <= _LONGEST
    ]
    for name in strange[:_MOST]:
        near = difflib.get_close_matches(name, sorted(catalogue.names), n=1, cutoff=0.75)
        meant = f" Did you mean {near[0]}?" if near else ""
        field = f"{container.path}.resources.limits[{name}]"
        yield f"{field}: not converted, so a device plugin has to serve it.{meant}"
