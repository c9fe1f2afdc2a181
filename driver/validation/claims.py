"""What is wrong with a claim or template, in this cluster.

Flow: `check_claim` asks first what is wrong by itself (`driver.validation.itself`), then whether selectors
compile, counts can be, and amounts stand where somebody reads them; and if nothing was wrong so far, what the
cluster's cards say to it (`driver.validation.giving`).

Limits: requests for classes of other drivers are passed over; a ShareAllocation is refused in any claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from driver.cards import DRIVER_NAME
from driver.cel import Selector
from driver.errors import shown
from driver.quantities import Quantity
from driver.validation.errors import (
    AmountsNotAskedError,
    CountTooLargeError,
    ObjectTooLargeError,
    ObjectUnreadableError,
    SharesOfOneCardError,
)
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.giving import Giving
from driver.validation.itself import Asked, check_itself
from driver.validation.limits import MAX_CONSTRAINTS, MAX_DEVICES, MAX_FINDINGS, MAX_NAMES, MAX_SELECTORS
from driver.validation.priorities import check_priorities
from driver.validation.reading import as_mapping, entries, mapping, names, nearest, text
from driver.validation.requests import Option
from driver.validation.selectors import Selectors

_PARTITIONS = f"partition.{DRIVER_NAME}"

FIRST_NEVER_TWICE = (1, 36)
"""Before it, kube-scheduler can give one request two shares of one card."""

Compiled = Mapping[str, Sequence[tuple[str, Selector]] | None]
"""Selectors of requests, each with its field, by label; None where one of them does not compile."""


def check_claim(
    devices: Mapping[str, Any], *, field: str, facts: ClusterFacts, notes: Notes, made: bool
) -> None:
    """Notes what is wrong with a claim.

    Args:
        devices: `spec.devices`.
        field: Its path.
        facts: The cluster.
        notes: Where to note it.
        made: Whether Kubernetes made it from a template, for a pod that exists: what the cluster's cards
            cannot give is then no error any more, since they may be away for a while.
    """

    def is_ours(option: Option) -> bool:
        return facts.is_ours(option.device_class)

    asked = check_itself(devices, field=field, is_ours=is_ours, notes=notes)
    for option in _first_strange(asked.others, facts):
        _check_name(option, facts=facts, notes=notes)
    if not asked.options:
        return
    selectors = Selectors(facts, notes)
    compiled = {option.label: _compiled(option, selectors, notes) for option in asked.options}
    constraints = [*_constraints(devices, field=field, notes=notes), *_carried(asked)]
    amounts = {option.label: amounts_of(option, asked) for option in asked.options}
    _check_places(asked, facts=facts, notes=notes)
    _check_counts(asked.options, field=field, notes=notes)
    for option in _first_strange(asked.options, facts):
        _check_class(option, facts=facts, notes=notes)
    for option in asked.options:
        _check_twice(option, amounts[option.label], constraints, field=field, facts=facts, notes=notes)
    if notes.failed:
        return
    _check_partitions(asked.options, amounts, notes=notes)
    check_priorities(asked, amounts, policies=facts.policies, notes=notes)
    giving = Giving(facts, selectors, notes, strict=not (made or facts.cards_may_come))
    giving.check(asked, compiled, amounts)
    giving.check_constraints(constraints, {option.request for option in asked.options})


def amounts_of(option: Option, asked: Asked) -> Mapping[str, Quantity]:
    """What a request asks for, by itself or by configuration."""
    found: dict[str, Quantity] = {}
    for said in asked.configs:
        if said.means(option.label):
            found.update(said.amounts)
    found.update(asked.amounts.get(option.label, {}))
    return found


def _compiled(option: Option, selectors: Selectors, notes: Notes) -> list[tuple[str, Selector]] | None:
    found: list[tuple[str, Selector]] = []
    whole = True
    try:
        listed = entries(option.raw, "selectors", field=option.field, most=MAX_SELECTORS)
        for place, one in enumerate(listed):
            where = f"{option.field}.selectors[{place}].cel"
            entry = as_mapping(one, field=where.removesuffix(".cel"))
            cel = mapping(entry, "cel", field=where.removesuffix(".cel"))
            expression = text(cel, "expression", field=where)
            selector = selectors.compiled(expression, field=f"{where}.expression")
            if selector is None:
                whole = False
            else:
                found.append((f"{where}.expression", selector))
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)
        return None
    return found if whole else None


def _carried(asked: Asked) -> Iterator[tuple[str, str, bool, Sequence[str]]]:
    """The constraints that the webhook took out of the claim, in the same form."""
    for said in asked.configs:
        for one in said.config.constraints:
            yield f"{said.field}.constraints", one.distinct_attribute, True, one.requests


def _constraints(
    devices: Mapping[str, Any], *, field: str, notes: Notes
) -> list[tuple[str, str, bool, Sequence[str]]]:
    """Field, attribute, whether values have to differ, and the requests, of each constraint."""
    found = []
    try:
        for place, one in enumerate(entries(devices, "constraints", field=field, most=MAX_CONSTRAINTS)):
            where = f"{field}.constraints[{place}]"
            entry = as_mapping(one, field=where)
            match = text(entry, "matchAttribute", field=where)
            distinct = text(entry, "distinctAttribute", field=where)
            about = names(entry, "requests", field=where, most=MAX_NAMES)
            name = "distinctAttribute" if distinct else "matchAttribute"
            found.append((f"{where}.{name}", distinct or match, bool(distinct), about))
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)
    return found


def _check_places(asked: Asked, *, facts: ClusterFacts, notes: Notes) -> None:
    """Amounts that only configuration asks for are read by our allocator, and by nobody else."""
    if not facts.native or facts.amounts_kept is not True:
        return
    for option in asked.options:
        own = asked.amounts.get(option.label, {})
        for said in asked.configs:
            lost = [name for name in said.amounts if name not in own] if said.means(option.label) else []
            if lost and not option.admin:
                notes.refuse(
                    AmountsNotAskedError(
                        f"Request {option.label} asks for {' and '.join(lost)} in a ShareConfig only, which "
                        "kube-scheduler does not read: it would give the whole card.",
                        field=f"{said.field}.capacity.requests",
                        remedy=f"Write the amounts in {option.amounts_field}; if the claim comes from a "
                        "ResourceClaimTemplate that an older API server stored, make the template anew.",
                    )
                )
                return


def _check_counts(options: Sequence[Option], *, field: str, notes: Notes) -> None:
    least: dict[str, int] = {}
    for option in options:
        least[option.request] = min(option.count, least.get(option.request, option.count))
    total = sum(least.values())
    if total <= MAX_DEVICES:
        return
    single = next((one for one in options if one.count > MAX_DEVICES), None)
    notes.refuse(
        CountTooLargeError(
            f"{total} devices are more than the {MAX_DEVICES} that one claim can be given.",
            field=f"{field}.requests" if single is None else f"{single.field}.count",
            remedy="Ask for fewer, or make several claims for the pod.",
        )
    )


def _first_strange(options: Sequence[Option], facts: ClusterFacts) -> Iterator[Option]:
    """The requests for classes that there are not, of as many classes as are told of.

    Each of them costs a comparison with every class of the cluster.
    """
    seen: set[str] = set()
    for option in options:
        if facts.classes and option.device_class not in facts.classes:
            seen.add(option.device_class)
            if len(seen) > MAX_FINDINGS:
                return
            yield option


def _check_class(option: Option, *, facts: ClusterFacts, notes: Notes) -> None:
    near = nearest(option.device_class, (name for name in facts.classes if facts.is_ours(name)))
    notes.warn(
        f"There is no DeviceClass {shown(option.device_class)}; the pod waits until there is. {near}".strip(),
        field=f"{option.field}.deviceClassName",
    )


def _check_partitions(
    options: Sequence[Option], amounts: Mapping[str, Mapping[str, Quantity]], *, notes: Notes
) -> None:
    """Warns of what prepare refuses (PartitionBesideShare): which containers use both is not known here."""
    shares = [one for one in options if amounts[one.label] and one.device_class != _PARTITIONS]
    for partition in (one for one in options if one.device_class == _PARTITIONS):
        # Of the alternatives of one request only one is given.
        share = next((one for one in shares if one.request != partition.request), None)
        if share is not None:
            notes.warn(
                f"A container that gets request {share.label}, with a limit, and this one, a partition, is "
                "refused if both are of one vendor's cards: give each a container of its own.",
                field=partition.field,
            )
            return


def _check_name(option: Option, *, facts: ClusterFacts, notes: Notes) -> None:
    """Warns of a class that is nobody's, and was meant to be one of ours."""
    if not option.device_class:
        return
    ours = (name for name in facts.classes if facts.is_ours(name))
    near = nearest(option.device_class, ours, cutoff=0.85)
    if near:
        notes.warn(
            f"There is no DeviceClass {shown(option.device_class)}. {near}",
            field=f"{option.field}.deviceClassName",
        )


def _check_twice(
    option: Option,
    amounts: Mapping[str, Quantity],
    constraints: Sequence[tuple[str, str, bool, Sequence[str]]],
    *,
    field: str,
    facts: ClusterFacts,
    notes: Notes,
) -> None:
    # Without an amount of memory a share takes all of its card, and nothing is left for a second one.
    if option.count < 2 or option.admin or "memory" not in amounts:
        return
    if facts.version >= FIRST_NEVER_TWICE:
        return
    for _, _, distinct, about in constraints:
        if distinct and (not about or option.request in about or option.label in about):
            return
    named = not facts.cards.every or facts.cards.has("attributes", DRIVER_NAME, "uuid")
    attribute = f"{DRIVER_NAME}/uuid" if named else "resource.kubernetes.io/pciBusID"
    notes.refuse(
        SharesOfOneCardError(
            f"{option.count} shares are asked for, and nothing keeps them on different cards: before "
            "Kubernetes 1.36 one request can be given the same card twice.",
            field=f"{option.field}.count",
            remedy=f"Add to {field}.constraints: {{requests: [{option.label}], "
            f"distinctAttribute: {attribute}}}.",
        )
    )
