"""A pod's claim: which requests it has, and which container uses which.

Flow: what each container asks for -> requests, constraints, config of one claim, and for each container the
names of its requests. The same at admission and afterwards, so nothing but the pod and what it asked for
decides.

Rules that people see:

* App containers and sidecars have requests of their own. An init container that asks for the very same as an
  app container, as a sidecar that starts after it, or as an init container before it, uses that one's: they
  run one after the other. Any other init container has requests of its own, which are held as long as the
  pod lives.
* Cards of one container differ from each other, also if it asks by several names of one vendor.
* A claim has at most 32 requests and is given at most 32 devices; more is refused.
* For extended resources that stand for DeviceClasses of ours: see `driver.conversion.by_class`.

Limits: whether kube-scheduler keeps `count` cards apart is its own affair: it looks for each after the one
before, and of several requests of a container each asks for one card only, since before 1.37 a
`distinctAttribute` forgets all but the last card of a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from driver.api.base import API_VERSION
from driver.api.share_config import CorePolicy
from driver.cards import DRIVER_NAME, IsolationLevel
from driver.conversion import by_class
from driver.conversion.amounts import CARDS, MAX_CARDS, whole_number
from driver.conversion.asks import Amounts, Ask, Circumstances, asks_of
from driver.conversion.choosing import Choice, choice_of
from driver.conversion.containers import Container, containers_of
from driver.conversion.errors import ConversionError
from driver.conversion.held import capped_by_mps, check_held
from driver.conversion.names import Family
from driver.conversion.places import Place, selectors_from
from driver.conversion.requests import is_parted, request_of, whole_devices
from driver.conversion.settings import ConversionSettings
from driver.conversion.stock import Stock

JSON = dict[str, Any]

_MAX_WARNINGS = 32
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADDRESS = "resource.kubernetes.io/pciBusID"
_NUMA = "resource.kubernetes.io/numaNode"


@dataclass(kw_only=True)
class Plan:
    """What becomes of a pod.

    Attributes:
        requests: Of its claim; none if it asks for no card.
        constraints: Of its claim.
        config: Of its claim.
        places: Where each request comes from.
        uses: Names of requests by name of container; only containers that have some.
        warnings: Sentences for whoever made the pod, each once.
    """

    requests: list[JSON] = field(default_factory=list)
    constraints: list[JSON] = field(default_factory=list)
    config: list[JSON] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    uses: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Adds a warning; more than a few dozen nobody would read, nor does the API server pass them on."""
        if len(self.warnings) < _MAX_WARNINGS and sentence not in self.warnings:
            self.warnings.append(sentence)

    def warn_while_there_is_room(self, sentences: Iterable[str]) -> None:
        """Adds warnings, and asks for none that would not be added."""
        for sentence in sentences:
            self.warn(sentence)
            if len(self.warnings) >= _MAX_WARNINGS:
                return

    @property
    def devices(self) -> JSON:
        """`spec.devices` of the claim."""
        parts = {"requests": self.requests, "constraints": self.constraints, "config": self.config}
        return {name: part for name, part in parts.items() if part}


def plan_of(
    pod: Mapping[str, Any],
    asked: Mapping[str, Amounts],
    *,
    settings: ConversionSettings,
    stock: Stock,
    served: Mapping[str, str],
) -> Plan:
    """Plans the claim of a pod.

    Args:
        pod: The pod.
        asked: What it asks for, or asked for before it was converted: names and amounts by container.
        settings: How amounts are read.
        stock: The cluster's cards.
        served: The DeviceClasses that the names stand for that are not in the catalogue.

    Raises:
        ConversionError: It cannot be converted as it is.
    """
    return _Planner(pod, asked, settings=settings, stock=stock, served=served).plan()


class _Planner:
    """Plans one pod."""

    def __init__(
        self,
        pod: Mapping[str, Any],
        asked: Mapping[str, Amounts],
        *,
        settings: ConversionSettings,
        stock: Stock,
        served: Mapping[str, str],
    ) -> None:
        said = (pod.get("metadata") or {}).get("annotations") or {}
        self._annotations = {key: value for key, value in said.items() if isinstance(value, str)}
        self._containers = [one for one in containers_of(pod.get("spec") or {}) if one.name in asked]
        self._asked = asked
        self._settings = settings
        self._stock = stock
        self._served = served
        self._choices: dict[Family, Choice] = {}
        self._alone: set[str] = set()
        self._taken: set[str] = set()
        self._cards = 0
        self._plan = Plan()

    def plan(self) -> Plan:
        found = [(one, self._asks(one)) for one in self._containers]
        asking = [(container, asks) for container, asks in found if asks]
        counts = self._counts()
        # Names of containers that have one request are theirs, whoever else would like them.
        number = {one.name: len(asks) + sum(one.name in by for by in counts.values()) for one, asks in found}
        self._alone = {name for name, asks in number.items() if asks == 1 and _LABEL.fullmatch(name)}
        self._taken = set(self._alone)
        # App containers and sidecars first: init containers look for one to follow, that starts after them.
        made: list[tuple[int, tuple[Ask, ...], tuple[str, ...]]] = []
        for place, (container, asks) in enumerate(asking):
            if not container.in_turn:
                self._plan.uses[container.name] = self._requests(container, asks)
                made.append((place, asks, self._plan.uses[container.name]))
        # App containers are the first choice: they start last.
        made.sort(key=lambda one: asking[one[0]][0].path.startswith("spec.initContainers"))
        for place, (container, asks) in enumerate(asking):
            if container.in_turn:
                names = next(
                    (names for starts, other, names in made if starts > place and other == asks), None
                )
                if names is None:
                    names = self._requests(container, asks)
                    # Init containers after this one start when it has ended.
                    made.append((len(asking), asks, names))
                    self._plan.warn(
                        f"{container.path}: no container asks for the same, so what this one asks for is "
                        "held as long as the pod lives."
                    )
                self._plan.uses[container.name] = names
        for resource, by_name in counts.items():
            self._by_class(resource, by_name)
        return self._plan

    def _counts(self) -> dict[str, dict[str, int]]:
        """How many devices containers ask for by resources that stand for classes."""
        counts: dict[str, dict[str, int]] = {}
        for container in self._containers:
            for name, value in self._asked[container.name].items():
                if name not in self._served:
                    continue
                field = f"{container.path}.resources.limits[{name}]"
                if number := whole_number(value, unit=CARDS, field=field):
                    counts.setdefault(name, {})[container.name] = number
        return dict(sorted(counts.items()))

    def _by_class(self, resource: str, counts: Mapping[str, int]) -> None:
        found = by_class.shared(self._containers, counts, resource=resource)
        names: list[str] = []
        for one in found.made:
            self._count(one.container, one.count)
            name = self._name(one.container)
            limits = f"{one.container.path}.resources.limits"
            made = whole_devices(name=name, device_class=self._served[resource], count=one.count)
            self._plan.requests.append(made)
            self._plan.places.append(Place(limits=limits, asked={"count": resource}))
            names.append(name)
        for container, places in found.uses.items():
            before = self._plan.uses.get(container, ())
            self._plan.uses[container] = (*before, *(names[place] for place in places))

    def _asks(self, container: Container) -> tuple[Ask, ...]:
        asked = self._asked[container.name]
        asks = asks_of(
            {name: value for name, value in asked.items() if name not in self._served},
            catalogue=self._settings.catalogue,
            around=Circumstances(
                annotations=self._annotations,
                core_policy=lambda family: self._core_policy(container, family),
                settings=self._settings,
                warn=self._plan.warn,
            ),
            path=f"{container.path}.resources.limits",
        )
        if any(not one.whole for one in asks):
            check_held(
                container,
                asks,
                choice_of=self._choice,
                stock=self._stock,
                served=self._served,
                warn=self._plan.warn,
            )
        return asks

    def _core_policy(self, container: Container, family: Family) -> CorePolicy:
        if self._choice(family).best_effort:
            return CorePolicy.DISABLE
        if family.vendor.name != "nvidia":
            return CorePolicy.FORCE
        said = container.core_policy
        if said in tuple(CorePolicy):
            return CorePolicy(said)
        return self._settings.core_policy

    def _choice(self, family: Family) -> Choice:
        if family not in self._choices:
            self._choices[family] = choice_of(
                family, self._annotations, stock=self._stock, warn=self._plan.warn
            )
        return self._choices[family]

    def _requests(self, container: Container, asks: tuple[Ask, ...]) -> tuple[str, ...]:
        self._count(container, sum(ask.count for ask in asks))
        names: list[str] = []
        by_vendor: dict[str, list[Ask]] = {}
        for ask in asks:
            by_vendor.setdefault(ask.family.vendor.name, []).append(ask)
        for group in by_vendor.values():
            apart, parted = len(group) > 1, False
            mine: list[str] = []
            for ask in group:
                for _ in range(ask.count if apart else 1):
                    name = self._name(container)
                    made = request_of(
                        ask,
                        name=name,
                        count=1 if apart else ask.count,
                        choice=self._choice(ask.family),
                        stock=self._stock,
                        path=f"{container.path}.resources.limits",
                        warn=self._plan.warn,
                    )
                    self._plan.requests.append(made)
                    parted |= is_parted(made)
                    self._plan.places.append(self._place(container, ask.family, made))
                    self._configure(ask, name)
                    mine.append(name)
            if sum(ask.count for ask in group) > 1:
                self._constrain(mine, group, parted=parted)
            names += mine
        return tuple(names)

    def _place(self, container: Container, family: Family, made: JSON) -> Place:
        mine = self._asked[container.name]
        asked = {role: name for role, name in family.resources.items() if name in mine}
        chosen = selectors_from(made, self._choice(family).because)
        return Place(limits=f"{container.path}.resources.limits", asked=asked, chosen=chosen)

    def _constrain(self, names: Sequence[str], group: Sequence[Ask], *, parted: bool) -> None:
        # Cards and their partitions have the address.
        apart = _ADDRESS if parted else group[0].family.told_apart_by
        self._plan.constraints.append({"requests": list(names), "distinctAttribute": apart})
        if any(self._choice(ask.family).one_numa_node for ask in group):
            self._plan.constraints.append({"requests": list(names), "matchAttribute": _NUMA})

    def _configure(self, ask: Ask, name: str) -> None:
        said: JSON = {}
        if ask.core_policy is not CorePolicy.FORCE:
            said["corePolicy"] = ask.core_policy.value
        if ask.priority is not None:
            said["priority"] = ask.priority.value
        if capped_by_mps(ask, self._choice(ask.family)):
            said["minimumIsolation"] = {"cores": IsolationLevel.SERVICE.value}
        if not said:
            return
        parameters = {"apiVersion": API_VERSION, "kind": "ShareConfig", **said}
        for entry in self._plan.config:
            if entry["opaque"]["parameters"] == parameters:
                entry["requests"].append(name)
                return
        self._plan.config.append(
            {"requests": [name], "opaque": {"driver": DRIVER_NAME, "parameters": parameters}}
        )

    def _name(self, container: Container) -> str:
        if container.name in self._alone:
            return container.name
        stem = container.name if _LABEL.fullmatch(container.name) else "cards"
        endings = (f"-{number}" for number in count(1))
        names = (stem[: 63 - len(ending)].rstrip("-") + ending for ending in endings)
        name = next(one for one in names if one not in self._taken)
        self._taken.add(name)
        return name

    def _count(self, container: Container, cards: int) -> None:
        self._cards += cards
        if self._cards > MAX_CARDS:
            raise ConversionError(
                f"With this container the pod asks for {self._cards} cards, but a claim is given at most "
                f"{MAX_CARDS}.",
                field=container.path,
                remedy=f"Divide it into pods of at most {MAX_CARDS} cards each.",
            )
