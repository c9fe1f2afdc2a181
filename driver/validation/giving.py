"""What the cluster's cards can ever give to a claim.

Purpose: a claim that no card could serve, however empty the cluster, is told so when it is made.

Flow: for each request the cards that its class and selectors pick (`driver.validation.selectors`), then
whether one of them has the amounts, then whether one node has as many.

Rules, in the order of certainty:

* where there is no card at all, nothing is said: nodes may come;
* where class and selectors pick no card: a warning, for the same reason;
* where they pick cards and none of these has the amounts, empty as it may be: an error, since whoever picks a
  card of 80 GiB and asks 100 of it means something else; a warning where larger cards may come
  (`ClusterFacts.cards_may_come`), and for claims that Kubernetes makes from a template, which was judged;
* where no node has `count` of them: a warning, as cards fail and are repaired; the same where none holds
  limits as strongly as a configuration wants it, as methods are installed;
* of sub-requests it is enough that one can be served.

Limits: what others hold plays no part, nor whether cards are offered at this moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from driver.allocation.capacity import Shortage, consumptions
from driver.allocation.errors import CapacityRequestError
from driver.allocation.models import Device
from driver.api.share_config import CorePolicy, OnUnavailable
from driver.cards import DRIVER_NAME, ISOLATION_ORDER, IsolationLevel, at_least
from driver.cel import Selector, compile_selector
from driver.quantities import Quantity, format_bytes
from driver.validation.configs import Said
from driver.validation.errors import (
    AmountTooLargeError,
    ObjectTooLargeError,
    ObjectUnreadableError,
    UncappedShareError,
)
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.itself import Asked
from driver.validation.limits import MAX_SELECTORS
from driver.validation.priorities import HELD_BY_PRELOAD, NOT_HELD, said_of
from driver.validation.reading import as_mapping, entries, mapping, text
from driver.validation.requests import Option
from driver.validation.selectors import Selectors


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Why a request cannot be served; an error if there is one, otherwise a warning."""

    field: str
    sentence: str
    error: AmountTooLargeError | UncappedShareError | None = None


class Giving:
    """Holds the requests of one claim against the cards."""

    def __init__(self, facts: ClusterFacts, selectors: Selectors, notes: Notes, *, strict: bool) -> None:
        self._facts = facts
        self._cards = facts.cards
        self._selectors = selectors
        self._notes = notes
        self._strict = strict
        self._classes: dict[str, int | None] = {}

    def check(
        self,
        asked: Asked,
        compiled: Mapping[str, Sequence[tuple[str, Selector]] | None],
        amounts: Mapping[str, Mapping[str, Quantity]],
    ) -> None:
        """Notes requests that no card can serve.

        Args:
            asked: The claim.
            compiled: The selectors of each request, by label; None where one cannot be looked into.
            amounts: What each request asks for, by label.
        """
        if not self._cards.every:
            return
        problems: dict[str, list[_Problem | None]] = {}
        for option in asked.options:
            problem = self._option(option, compiled[option.label], amounts[option.label], asked)
            problems.setdefault(option.request, []).append(problem)
        for several in problems.values():
            # A sub-request is there to be passed over.
            found = [one for one in several if one is not None]
            if len(found) == len(several):
                self._tell(found)

    def check_constraints(
        self, constraints: Sequence[tuple[str, str, bool, Sequence[str]]], requests: set[str]
    ) -> None:
        """Notes constraints on attributes that no card has: nothing can be allocated under them."""
        if not self._cards.every:
            return
        for field, attribute, _, about in constraints:
            domain, slash, name = attribute.partition("/")
            ours = not about or any(one.partition("/")[0] in requests for one in about)
            if not slash or not ours or self._cards.has("attributes", domain, name):
                continue
            near = self._cards.meant("attributes", domain, name)
            self._notes.warn(
                f"No card of this cluster has the attribute {attribute}. {near}".strip(), field=field
            )

    def _tell(self, problems: Sequence[_Problem]) -> None:
        errors = [one.error for one in problems if one.error is not None]
        if self._strict and len(errors) == len(problems):
            self._notes.refuse(errors[0])
            return
        for one in problems:
            self._notes.warn(one.sentence, field=one.field)

    def _option(
        self,
        option: Option,
        selectors: Sequence[tuple[str, Selector]] | None,
        amounts: Mapping[str, Quantity],
        asked: Asked,
    ) -> _Problem | None:
        cards = self._of_class(option.device_class)
        if cards is None or selectors is None:
            return None
        if not cards:
            return _Problem(
                field=f"{option.field}.deviceClassName",
                sentence=f"DeviceClass {option.device_class} picks no card of this cluster.",
            )
        picked = self._selectors.pick(cards, selectors)
        if picked.cards is None:
            return None
        if not picked.cards:
            return _Problem(field=picked.field, sentence=picked.sentence)
        if option.admin:
            return None
        self._priority(option, picked.cards, asked)
        return (
            self._amounts(option, picked.cards, amounts)
            or self._cap(option, picked.cards, amounts, asked)
            or self._isolation(option, picked.cards, amounts, asked)
            or self._count(option, picked.cards)
        )

    def _of_class(self, name: str) -> int | None:
        if name not in self._classes:
            document = self._facts.classes.get(name)
            expressions = None if document is None else expressions_of(document)
            self._classes[name] = None if expressions is None else self._selectors.of_class(expressions)
        return self._classes[name]

    def _amounts(self, option: Option, cards: int, amounts: Mapping[str, Quantity]) -> _Problem | None:
        short: list[tuple[Shortage, Device]] = []
        for device in self._cards.kinds(cards):
            try:
                found = consumptions(device, amounts, keep_form=False)
            except CapacityRequestError:
                return None
            if not isinstance(found, Shortage):
                return None
            short.append((found, device))
        largest = max((_memory(device) for _, device in short), default=0)
        wanted = amounts.get("memory")
        number = cards.bit_count()
        those = f"the {number} cards" if number > 1 else "the card"
        if wanted is None or wanted.rounded_up <= largest:
            sentence = f"None of {those} that it picks can serve it: {short[0][0].message}."
            remedy, name = "Ask for amounts that one card has.", ""
        else:
            most = format_bytes(largest)
            has = f"the largest of {those} that it picks has {most}" if number > 1 else f"{those} has {most}"
            sentence = f"{wanted} of memory is more than any card can give: {has}."
            remedy = f"Ask for at most {most} of one card, and for several cards with count."
            name = ".memory"
        where = f"{option.amounts_field}{name}"
        return _Problem(
            field=where,
            sentence=sentence,
            error=AmountTooLargeError(sentence, field=where, remedy=remedy),
        )

    def _cap(
        self, option: Option, cards: int, amounts: Mapping[str, Quantity], asked: Asked
    ) -> _Problem | None:
        said = next(
            (
                one
                for one in asked.configs
                if one.means(option.label) and one.config.core_policy is CorePolicy.DISABLE
            ),
            None,
        )
        kinds = self._cards.kinds(cards)
        wanted = amounts.get("memory")
        if said is None or wanted is None or not all(map(_refuses_uncapped, kinds)):
            return None
        if any(wanted.rounded_up >= _memory(device) for device in kinds):
            # A share of all memory has its card to itself.
            return None
        sentence = "It disables its cap on compute, and a policy refuses that on all cards that it picks."
        where = f"{said.field}.corePolicy"
        error = UncappedShareError(sentence, field=where, remedy="Leave corePolicy: disable out.")
        return _Problem(field=where, sentence=sentence, error=error)

    def _priority(self, option: Option, cards: int, asked: Asked) -> None:
        said = said_of(option.label, asked.configs)
        held = self._selectors.of_class([HELD_BY_PRELOAD]) if said is not None else None
        if said is not None and held is not None and not cards & held:
            self._notes.warn(NOT_HELD.format(request=option.label), field=f"{said.field}.priority")

    def _isolation(
        self, option: Option, cards: int, amounts: Mapping[str, Quantity], asked: Asked
    ) -> _Problem | None:
        """Whether any card's limits are held as strongly as a configuration wants it, as its node tells."""
        for said in asked.configs:
            if not said.means(option.label) or said.config.on_unavailable is not OnUnavailable.FAIL_CLOSED:
                continue
            for dimension, minimum in (
                ("memory", said.config.minimum_isolation.memory),
                ("cores", said.config.minimum_isolation.cores),
            ):
                if minimum is None or not self._limits(dimension, cards, amounts, said):
                    continue
                found = self._cards.select(_held_by(dimension, minimum))
                if not cards & (found.true | found.raises):
                    those = "The card" if cards.bit_count() == 1 else f"None of the {cards.bit_count()} cards"
                    what = "that it picks has no" if cards.bit_count() == 1 else "that it picks has a"
                    return _Problem(
                        field=f"{said.field}.minimumIsolation.{dimension}",
                        sentence=f"{those} {what} limit of {dimension} held by {minimum} or stronger.",
                    )
        return None

    def _limits(self, dimension: str, cards: int, amounts: Mapping[str, Quantity], said: Said) -> bool:
        """Whether there is a limit at all that would have to be held."""
        wanted = amounts.get(dimension)
        if wanted is None or wanted.nano == 0:
            return False
        if dimension == "cores":
            return said.config.core_policy is not CorePolicy.DISABLE
        return all(wanted.rounded_up < _memory(device) for device in self._cards.kinds(cards))

    def _count(self, option: Option, cards: int) -> _Problem | None:
        if option.count < 2:
            return None
        most = self._cards.most_on_one_node(cards)
        if option.count <= most:
            return None
        return _Problem(
            field=f"{option.field}.count",
            sentence=f"No node of this cluster has {option.count} such cards; the most on a node is {most}.",
        )


def expressions_of(device_class: Mapping[str, Any]) -> list[str] | None:
    """The selectors of a DeviceClass; None where they cannot be read."""
    try:
        spec = mapping(device_class, "spec", field="")
        found = []
        for one in entries(spec, "selectors", field="spec", most=MAX_SELECTORS):
            cel = mapping(as_mapping(one, field="spec.selectors"), "cel", field="spec.selectors")
            found.append(text(cel, "expression", field="spec.selectors"))
    except (ObjectUnreadableError, ObjectTooLargeError):
        return None
    return found


@cache
def _held_by(dimension: str, minimum: IsolationLevel) -> Selector:
    """What holds for cards whose limits are held so strongly."""
    strong = ", ".join(f'"{one}"' for one in ISOLATION_ORDER if at_least(one, minimum))
    return compile_selector(f'device.attributes["{DRIVER_NAME}"].{dimension}Isolation in [{strong}]')


def _memory(device: Device) -> int:
    capacity = device.capacity.get("memory")
    return 0 if capacity is None else capacity.value.rounded_up


def _refuses_uncapped(device: Device) -> bool:
    """Whether a policy refuses shares without a cap: our slices say so by a minimum of cores."""
    capacity = device.capacity.get("cores") or device.capacity.get(f"{DRIVER_NAME}/cores")
    policy = None if capacity is None else capacity.policy
    return policy is not None and policy.minimum is not None and policy.minimum.nano > 0
