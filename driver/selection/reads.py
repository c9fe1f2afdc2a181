"""What an expression reads of a device.

Purpose: an expression that reads one column gives the same for all devices with the same value there,
whatever it computes; so this is all an index needs to know of it.

Flow: `path_of` recognises a chain of constant names that starts at `device`; `Names` says what variables
stand for; `reads_of` collects the columns of a whole expression, or finds that it cannot be said (None).

Limits: what takes a map as a whole (`size(device.attributes)`, a macro over a domain, a computed key) can
read anything of it. A missing domain reads like an empty one in every chain that is recognised here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from driver.cel.access import device_path
from driver.cel.syntax import (
    Bind,
    Call,
    Comprehension,
    Ident,
    Index,
    Literal,
    Node,
    OptionalMap,
    Select,
    children,
)
from driver.selection.column import Path

Reads = frozenset[Path] | None
_NONE: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class Variable:
    """What a variable stands for.

    Attributes:
        reads: What its value reads; nothing for the elements of a macro, whose operand is counted where the
            macro stands.
        prefix: The chain that its value is, if it is one.
        plain: Whether the chain has no `?` in it.
    """

    reads: Reads = _NONE
    prefix: Path | None = None
    plain: bool = True


_LOCAL = Variable()
_DEVICE = Variable(None, ())


@dataclass(frozen=True, slots=True)
class Names:
    """The variables at one place in an expression.

    Attributes:
        variables: What they stand for.
        binds: The `cel.bind`s around the place, outermost first.
        computed: How many of them bind something else than a chain of names.
    """

    variables: Mapping[str, Variable] = field(default_factory=lambda: {"device": _DEVICE})
    binds: tuple[Bind, ...] = ()
    computed: int = 0

    def find(self, name: str) -> Variable | None:
        """Give a variable; None for the name of a type."""
        # A leading dot passes by all variables that macros declare.
        return _DEVICE if name == ".device" else self.variables.get(name)

    def inside(self, bind: Bind) -> Names:
        """Give the variables in the body of a `cel.bind`."""
        value = bind.value
        variable = Variable(
            reads_of(value, self), prefix_of(value, self), prefix_of(value, self, plain=True) is not None
        )
        computed = self.computed + (variable.prefix is None)
        return Names({**self.variables, bind.variable: variable}, (*self.binds, bind), computed)

    def with_local(self, *variables: str) -> Names:
        """Give the variables in the body of a macro."""
        return Names(
            {**self.variables, **dict.fromkeys(filter(None, variables), _LOCAL)}, self.binds, self.computed
        )


ROOT = Names()


def prefix_of(node: Node, names: Names, *, plain: bool = False) -> Path | None:
    """Give the chain of names from `device` that a node is, None if it is none.

    Args:
        node: The node.
        names: What variables stand for there.
        plain: Whether `?` in the chain is refused.
    """
    if isinstance(node, Ident):
        variable = names.find(node.name)
        if variable is None or (plain and not variable.plain):
            return None
        return variable.prefix
    if isinstance(node, Select):
        if node.test or (plain and node.optional):
            return None
        name = node.field
    elif isinstance(node, Index):
        if not isinstance(node.key, Literal) or type(node.key.value) is not str or (plain and node.optional):
            return None
        name = node.key.value
    else:
        return None
    above = prefix_of(node.operand, names, plain=plain)
    return None if above is None or is_column(above) else (*above, name)


def path_of(node: Node, names: Names) -> Path | None:
    """Give the column that a node is the value of, None if it is none; chains with `?` are none."""
    if isinstance(node, (Select, Index)):
        usual = device_path(node)
        if usual is not None and names.find(usual[0].name) is _DEVICE:
            return usual[1:]
    found = prefix_of(node, names, plain=True)
    return found if found is not None and is_column(found) else None


def is_column(prefix: Path) -> bool:
    """Say whether a chain ends at a value, and not at a map or at the device."""
    return len(prefix) == 3 or (len(prefix) == 1 and prefix[0] in {"driver", "allowMultipleAllocations"})


def reads_of(node: Node, names: Names) -> Reads:
    """Give the columns that an expression reads, None if that cannot be said."""
    found: set[Path] = set()
    return frozenset(found) if _collect(node, names, found) else None


def _collect(node: Node, names: Names, found: set[Path]) -> bool:
    if isinstance(node, Literal):
        return True
    if isinstance(node, Ident):
        variable = names.find(node.name)
        return variable is None or _variable(variable, found)
    if isinstance(node, (Select, Index)):
        return _chain(node, names, found)
    if isinstance(node, Call):
        if node.function == "_in_" and (key := _key_in(node, names)) is not None:
            found.add(key)
            return True
    elif isinstance(node, Comprehension):
        inner = names.with_local(node.variable, node.second)
        return (
            _collect(node.operand, names, found)
            and (node.condition is None or _collect(node.condition, inner, found))
            and _collect(node.body, inner, found)
        )
    elif isinstance(node, OptionalMap):
        inner = names.with_local(node.variable)
        return _collect(node.operand, names, found) and _collect(node.body, inner, found)
    elif isinstance(node, Bind):
        return _collect(node.body, names.inside(node), found)
    return _all(children(node), names, found)


def _all(nodes: Iterable[Node], names: Names, found: set[Path]) -> bool:
    for node in nodes:  # noqa: SIM110 - this is walked for each selector, and a generator costs twice as much
        if not _collect(node, names, found):
            return False
    return True


def _key_in(node: Call, names: Names) -> Path | None:
    """Give the column that says whether `key in map` holds, if the key is constant and the map a domain."""
    key, container = node.args
    if not isinstance(key, Literal) or type(key.value) is not str:
        return None
    above = prefix_of(container, names)
    return None if above is None or not 1 <= len(above) <= 2 or is_column(above) else (*above, key.value)


def _variable(variable: Variable, found: set[Path]) -> bool:
    if variable.reads is None:
        return False
    found |= variable.reads
    return True


def _chain(node: Select | Index, names: Names, found: set[Path]) -> bool:
    if isinstance(node, Select) and node.test:
        above = prefix_of(node.operand, names)
        if above is not None and not is_column(above):
            # The fields of `device` are always there.
            if above:
                found.add((*above, node.field))
            return True
    path = path_of(node, names)
    if path is None:
        prefix = prefix_of(node, names)
        if prefix is None:
            return _all(children(node), names, found)
        if not is_column(prefix):
            return False
        path = prefix
    found.add(path)
    return True
