"""What is wrong with an AcceleratorQuota.

Flow: the spec is decoded as its readers decode it; then what it is about is looked for in the cluster.

Rules: a quota for a vendor that there is not would limit nothing for ever, and is an error; one for a class
or a model that is not there now is a warning, since both may come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from driver.api.base import decode
from driver.api.quota import AcceleratorQuotaSpec, QuotaAmounts
from driver.errors import ConfigError, shown
from driver.validation.errors import ObjectUnreadableError
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.limits import MAX_FINDINGS
from driver.validation.reading import mapping, nearest
from driver.vendors.catalogue import VENDORS

_VENDORS = frozenset(one.name for one in VENDORS)


def check_quota(found: Mapping[str, Any], *, facts: ClusterFacts, notes: Notes) -> None:
    """Notes what is wrong with an AcceleratorQuota."""
    try:
        spec = decode(AcceleratorQuotaSpec, mapping(found, "spec", field=""), field="spec")
    except (ConfigError, ObjectUnreadableError) as refused:
        notes.refuse(refused)
        return
    for name in ("memory", "cores", "cards"):
        hard, most = _whole(spec.hard, name), _whole(spec.max_per_claim, name)
        if hard is not None and most is not None and most > hard:
            notes.warn(
                f"One claim can never have so much: {name} of spec.hard is less.",
                field=f"spec.maxPerClaim.{name}",
            )
    _check_classes(spec.device_class_names, facts=facts, notes=notes)
    _check_vendors(spec.vendors, facts=facts, notes=notes)
    _check_models(spec.models, facts=facts, notes=notes)


def _strange(names: Sequence[str], known: Collection[str]) -> Iterator[tuple[int, str]]:
    """The names that are not known, with their places, as many as are told of."""
    return islice(((place, name) for place, name in enumerate(names) if name not in known), MAX_FINDINGS)


def _check_classes(names: Sequence[str], *, facts: ClusterFacts, notes: Notes) -> None:
    if not facts.classes:
        return
    for place, name in _strange(names, facts.classes):
        near = nearest(name, (one for one in facts.classes if facts.is_ours(one)))
        notes.warn(
            f"There is no DeviceClass {shown(name)}. {near}".strip(),
            field=f"spec.deviceClassNames[{place}]",
        )


def _check_vendors(names: Sequence[str], *, facts: ClusterFacts, notes: Notes) -> None:
    known = _VENDORS | facts.cards.said("vendor")
    every = f"The vendors are {', '.join(sorted(known)[:32])}."
    for place, name in _strange(names, known):
        notes.refuse(
            ConfigError(
                f"There is no vendor {shown(name)}, so nothing would be limited.",
                field=f"spec.vendors[{place}]",
                remedy=nearest(name.lower(), known) or every,
            )
        )


def _check_models(names: Sequence[str], *, facts: ClusterFacts, notes: Notes) -> None:
    known = facts.cards.said("model")
    if not known:
        return
    small = {one.lower() for one in known}
    for place, _ in _strange([one.lower() for one in names], small):
        name = names[place]
        near = nearest(name, known, cutoff=0.5)
        notes.warn(
            f"No card of this cluster is of model {shown(name)}: nothing is limited now. {near}".strip(),
            field=f"spec.models[{place}]",
        )


def _whole(amounts: QuotaAmounts, name: str) -> int | None:
    return {"memory": amounts.memory_mib, "cores": amounts.cores_percent, "cards": amounts.card_count}[name]
