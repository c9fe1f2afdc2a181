"""Which DeviceClasses are ours.

A class is ours by its name (those that the chart installs), by the label `dragoman.dev/driver: "true"`, or
because its selectors cannot hold for a device of another driver.

Limits: the last is read off the selector's tree, not proved: `device.driver == "dragoman.dev"`, alone, in
a chain of `&&`, or on every side of an `||`. A class that says the same in another way needs the label.
"""

from __future__ import annotations

from driver.cards import DRIVER_NAME
from driver.cel.parser import parse
from driver.cel.syntax import Call, Ident, Literal, Logic, Node, Select
from driver.errors import SelectorError
from driver.kube.client import JSON

LABEL = f"{DRIVER_NAME}/driver"


def is_standard_name(name: str) -> bool:
    """Whether the name alone says that a class is ours, even if no such class exists."""
    return name.endswith(f".{DRIVER_NAME}")


def is_ours(device_class: JSON) -> bool:
    """Whether a DeviceClass picks only devices of our driver."""
    metadata = device_class.get("metadata") or {}
    if is_standard_name(str(metadata.get("name") or "")):
        return True
    if (metadata.get("labels") or {}).get(LABEL) == "true":
        return True
    selectors = (device_class.get("spec") or {}).get("selectors") or []
    # All selectors of a class have to hold, so one that implies it is enough.
    return any(implies_our_driver(str((one.get("cel") or {}).get("expression") or "")) for one in selectors)


def implies_our_driver(expression: str) -> bool:
    """Whether a selector can hold only for devices of our driver; False where that cannot be seen."""
    try:
        return _implies(parse(expression))
    except SelectorError:
        return False


def _implies(tree: Node) -> bool:
    if isinstance(tree, Logic):
        inner = (_implies(operand) for operand in tree.operands)
        return any(inner) if tree.operator == "&&" else all(inner)
    if isinstance(tree, Call) and tree.function == "_==_":
        left, right = tree.args
        return (_is_driver(left) and _is_name(right)) or (_is_name(left) and _is_driver(right))
    return False


def _is_driver(tree: Node) -> bool:
    return (
        isinstance(tree, Select)
        and tree.field == "driver"
        and not tree.test
        and isinstance(tree.operand, Ident)
        and tree.operand.name == "device"
    )


def _is_name(tree: Node) -> bool:
    return isinstance(tree, Literal) and tree.value == DRIVER_NAME
