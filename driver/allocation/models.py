"""The objects of `resource.k8s.io/v1` that allocation reads, as values.

Purpose: parse once, check the shape once, and compute on frozen values afterwards.

Flow: `parse_slice` and `Device.parse` for what drivers publish; claims and classes are in
`driver.allocation.requests`. Devices of a cluster are alike, so what is equal in them is one object
(`driver.allocation.sharing`), and of the published JSON only what results repeat is kept.

Limits: what the API server would not have stored (a quantity that is none, a list that is no list) and
fields that we do not know yet become the `problem` of a slice or device, which takes part no more;
nothing that could change a decision is ignored silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from driver.allocation.sharing import Sharing
from driver.cel import DeviceView
from driver.errors import DragomanError, spelled
from driver.quantities import Quantity, parse_quantity

JSON: TypeAlias = Mapping[str, Any]
Amounts: TypeAlias = Mapping[str, Quantity]

_DEVICE_FIELDS = frozenset(
    {
        "name",
        "attributes",
        "capacity",
        "consumesCounters",
        "nodeName",
        "nodeSelector",
        "allNodes",
        "taints",
        "bindsToNode",
        "bindingConditions",
        "bindingFailureConditions",
        "allowMultipleAllocations",
        # What a prepared pod gets besides the device itself plays no part in choosing it.
        "nodeAllocatableResourceMappings",
    }
)


# What the result of an allocation repeats, or takes its node selector from.
_KEPT_FIELDS = ("bindsToNode", "bindingConditions", "bindingFailureConditions")
_NOTHING: JSON = {}


_CONSUMPTION_FIELDS = frozenset({"counterSet", "counters"})
_SLICE_FIELDS = frozenset(
    {
        "driver",
        "pool",
        "nodeName",
        "nodeSelector",
        "allNodes",
        "perDeviceNodeSelection",
        "devices",
        "sharedCounters",
    }
)


class DeviceID(NamedTuple):
    """What a device is known by: nothing else says whether it is in use."""

    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class Policy:
    """How much of a capacity a share may take."""

    default: Quantity | None = None
    minimum: Quantity | None = None
    maximum: Quantity | None = None
    step: Quantity | None = None
    values: tuple[Quantity, ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """One capacity of a device."""

    value: Quantity
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a device."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class NodeSelection:
    """The nodes that a slice, or one device of it, is for."""

    node_name: str = ""
    all_nodes: bool = False
    selector: JSON | None = None

    @classmethod
    def parse(cls, raw: JSON) -> NodeSelection:
        """Read the three fields that slices and devices share."""
        return cls(raw.get("nodeName") or "", raw.get("allNodes") is True, raw.get("nodeSelector"))

    @property
    def readable(self) -> bool:
        """Whether it can be compared with nodes."""
        try:
            self.check()
        except (KeyError, TypeError, AttributeError):
            return False
        return True

    def check(self) -> None:
        """Look at the shape.

        Raises:
            TypeError: It is not that of a NodeSelector.
            KeyError: A requirement has no key or no operator.
        """
        if not isinstance(self.node_name, str):
            raise TypeError("nodeName has to be a name")
        for term in (self.selector or {}).get("nodeSelectorTerms") or ():
            for one in (*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())):
                if not (isinstance(one["key"], str) and isinstance(one["operator"], str)):
                    raise TypeError("a requirement of a nodeSelector needs a key and an operator")
                if not all(isinstance(value, str) for value in one.get("values") or ()):
                    raise TypeError("the values of a nodeSelector have to be strings")


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """A device of a slice.

    Attributes:
        id: Driver, pool and name.
        view: What selectors see.
        attributes: Type and value of each attribute, by the name as written.
        capacity: Capacities by the name as written.
        shareable: Whether several claims may hold parts of it.
        taints: What keeps it from requests that do not tolerate it.
        counters: What it takes from the counters of its pool.
        nodes: Its own nodes, if the slice leaves that to devices.
        raw: Of the device as published, what results are made of: `bindsToNode`, `bindingConditions` and
            `bindingFailureConditions`, where set.
        problem: Why it cannot be considered, "" if it can.
    """

    id: DeviceID
    view: DeviceView
    attributes: Mapping[str, tuple[str, Any]]
    capacity: Mapping[str, Capacity]
    shareable: bool
    taints: tuple[Taint, ...]
    counters: tuple[tuple[str, Amounts], ...]
    nodes: NodeSelection
    raw: JSON
    problem: str = ""

    @classmethod
    def parse(
        cls,
        raw: JSON,
        *,
        driver: str,
        pool: str,
        nodes: NodeSelection | None,
        sharing: Sharing | None = None,
    ) -> Device:
        """Read a device.

        Args:
            raw: The device as published.
            driver: Its driver.
            pool: Its pool.
            nodes: The nodes of its slice, None if it says so itself.
            sharing: Where objects equal to its parts may be found.
        """
        sharing = sharing or Sharing()
        unknown = sorted(set(raw) - _DEVICE_FIELDS)
        unknown += sorted(
            {name for one in raw.get("consumesCounters") or () for name in set(one) - _CONSUMPTION_FIELDS}
        )
        if not isinstance(raw["name"], str):
            raise TypeError(f"{raw['name']!r} is no name of a device")
        for name in ("bindingConditions", "bindingFailureConditions"):
            if not isinstance(raw.get(name) or [], list):
                raise TypeError(f"{name} of device {raw['name']!r} has to be a list")
        if nodes is None:
            NodeSelection.parse(raw).check()
        capacity, capacity_view = _capacity(raw.get("capacity"), driver, sharing)
        return cls(
            id=DeviceID(sharing.one(driver), sharing.one(pool), sharing.one(raw["name"])),
            view=_view(raw, capacity_view, driver=driver, sharing=sharing),
            attributes={
                sharing.one(name): sharing.pair(*next(iter(value.items())))
                for name, value in (raw.get("attributes") or {}).items()
                if value
            },
            capacity=capacity,
            shareable=raw.get("allowMultipleAllocations") is True,
            taints=tuple(
                Taint(taint["key"], taint.get("value") or "", taint.get("effect") or "")
                for taint in raw.get("taints") or ()
            ),
            counters=tuple(
                (one["counterSet"], _parse_counters(one.get("counters")))
                for one in raw.get("consumesCounters") or ()
            ),
            nodes=NodeSelection.parse(raw) if nodes is None else nodes,
            raw={name: raw[name] for name in _KEPT_FIELDS if raw.get(name)} or _NOTHING,
            problem=f"the field {unknown[0]} is not supported yet" if unknown else "",
        )

    @property
    def binding_conditions(self) -> tuple[str, ...]:
        """Conditions that must be true before a pod is bound."""
        return tuple(self.raw.get("bindingConditions") or ())

    def attribute(self, qualified: str) -> tuple[str, Any] | None:
        """Look an attribute up by its qualified name, as constraints do."""
        found = self.attributes.get(qualified)
        if found is None:
            domain, _, name = qualified.partition("/")
            if domain == self.id.driver:
                found = self.attributes.get(name)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A ResourceSlice."""

    name: str
    driver: str
    pool: str
    generation: int
    count: int
    nodes: NodeSelection
    per_device: bool
    counter_sets: tuple[tuple[str, Amounts], ...]
    devices: tuple[Device, ...]
    problem: str = ""


def parse_slice(raw: JSON, *, sharing: Sharing | None = None) -> Slice:
    """Read a ResourceSlice (v1).

    Args:
        raw: The object.
        sharing: Where objects equal to parts of it may be found.
    """
    sharing = sharing or Sharing()
    spec = raw["spec"]
    driver, pool, generation, count = _identity(spec)
    nodes = NodeSelection.parse(spec)
    per_device = spec.get("perDeviceNodeSelection") is True
    name: str = raw["metadata"]["name"]
    problem = ""
    devices: tuple[Device, ...] = ()
    sets: tuple[tuple[str, Amounts], ...] = ()
    try:
        _known(spec)
        nodes.check()
        devices = tuple(
            Device.parse(
                device, driver=driver, pool=pool, nodes=None if per_device else nodes, sharing=sharing
            )
            for device in spec.get("devices") or ()
        )
        sets = tuple(
            (one["name"], _parse_counters(one.get("counters"))) for one in spec.get("sharedCounters") or ()
        )
    except (DragomanError, KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"slice {name} cannot be read: {error}"
        nodes = nodes if nodes.readable else NodeSelection()
    return Slice(
        name=name,
        driver=driver,
        pool=pool,
        generation=generation,
        count=count,
        nodes=nodes,
        per_device=per_device,
        counter_sets=sets,
        devices=devices,
        problem=problem,
    )


def _known(spec: JSON) -> None:
    unknown = sorted(set(spec) - _SLICE_FIELDS)
    if unknown:
        raise TypeError(f"the field {unknown[0]} is not supported yet")


def _identity(spec: JSON) -> tuple[str, str, int, int]:
    """Read what says which pool a slice is part of: without it, it is part of none."""
    driver, pool = spec["driver"], spec["pool"]
    name, generation, count = pool["name"], pool.get("generation", 0), pool.get("resourceSliceCount", 1)
    if not isinstance(driver, str) or not isinstance(name, str):
        raise TypeError("the driver and the pool need names")
    if type(generation) is not int or type(count) is not int:
        raise TypeError("a pool's generation and resourceSliceCount have to be numbers")
    return driver, name, generation, count


_Capacities: TypeAlias = tuple[Mapping[str, Capacity], DeviceView]


def _capacity(raw: Mapping[str, JSON] | None, driver: str, sharing: Sharing) -> _Capacities:
    """Read capacities, and how selectors see them; devices of one model have the same."""

    def parse() -> _Capacities:
        parsed = {
            sharing.one(name): Capacity(
                parse_quantity(value["value"]), _parse_policy(value.get("requestPolicy"))
            )
            for name, value in (raw or {}).items()
        }
        return parsed, DeviceView.build({"capacity": raw}, driver=driver)

    return sharing.made((driver, repr(raw)), parse)


def _view(raw: JSON, capacity: DeviceView, *, driver: str, sharing: Sharing) -> DeviceView:
    view = DeviceView.build({**raw, "capacity": None}, driver=driver)
    attributes = type(view.attributes)(
        {sharing.one(domain): sharing.mapping(values) for domain, values in view.attributes.items()}
    )
    return replace(
        view,
        driver=sharing.one(driver),
        attributes=attributes,
        capacity=capacity.capacity,
        problem=view.problem or capacity.problem,
    )


def parse_amounts(raw: Mapping[str, str] | None, *, field: str = "") -> dict[str, Quantity]:
    """Read quantities by name."""
    return {
        name: parse_quantity(spelled(text), field=f"{field}[{name}]") for name, text in (raw or {}).items()
    }


def _parse_counters(raw: Mapping[str, JSON] | None) -> dict[str, Quantity]:
    return {name: parse_quantity(counter["value"]) for name, counter in (raw or {}).items()}


def _parse_policy(raw: JSON | None) -> Policy | None:
    if not raw:
        return None
    bounds = raw.get("validRange") or {}

    def optional(holder: JSON, name: str) -> Quantity | None:
        return parse_quantity(holder[name]) if holder.get(name) is not None else None

    return Policy(
        default=optional(raw, "default"),
        minimum=optional(bounds, "min"),
        maximum=optional(bounds, "max"),
        step=optional(bounds, "step"),
        values=tuple(sorted(map(parse_quantity, raw.get("validValues") or ()))),
    )
