"""What selectors may use, by Kubernetes release.

Purpose: a selector that an older cluster would refuse is refused here too.

Flow: `environment(release)` gives the functions, names and types of that release, as the scheduler sees
them: for expressions that are stored already, whatever the feature gates of functions say. With
`stored=False` it is what the API server accepts in new objects: functions of the release before.

Limits: 1.34 to 1.37. Whether attributes can be lists is the gate DRAListTypeAttributes, on here unless
asked otherwise; releases before 1.36 do not have it, and 1.37 has it always for stored expressions.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from driver.cel.inference import ANY, has_variable
from driver.cel.library import REGISTRY, Entry
from driver.cel.library.entry import FIRST
from driver.cel.types import BOOL, DYN, QUANTITY, STRING, Type, list_of, map_of, optional_of
from driver.errors import InvalidInputError

RELEASES: Mapping[str, tuple[int, int]] = {"1.34": (1, 34), "1.35": (1, 35), "1.36": (1, 36), "1.37": (1, 37)}
DEFAULT_RELEASE = "1.36"
_LISTS_SINCE = (1, 36)
_NEW_PARSER = (1, 37)
# Functions that come with the gate; stored expressions have them in any case.
_GATED = frozenset({"includes"})

_A, _B = Type("A", variable=True), Type("B", variable=True)
# Names of types as values, with the types of what `type(x)` compares with them.
TYPE_NAMES: Mapping[str, Type] = {
    "bool": BOOL,
    "bytes": Type("bytes"),
    "double": Type("double"),
    "int": Type("int"),
    "list": list_of(DYN),
    "map": map_of(DYN, DYN),
    "null_type": Type("null_type"),
    "string": STRING,
    "type": Type("type", (DYN,)),
    "uint": Type("uint"),
    "optional_type": optional_of(_A),
    "google.protobuf.Duration": Type("duration"),
    "google.protobuf.Timestamp": Type("timestamp"),
    "net.CIDR": Type("cidr"),
    "net.IP": Type("ip"),
}
TYPE_SPACES = frozenset(name.split(".")[0] for name in TYPE_NAMES if "." in name)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An overload as the type check wants it.

    Attributes:
        entry: The overload; None for indexing, which is no function.
        parameters: Types of the arguments, the value before the dot first.
        result: Type of the result.
        generic: Whether there are type parameters.
    """

    entry: Entry | None
    parameters: tuple[Type, ...]
    result: Type
    generic: bool


def _candidate(entry: Entry | None, parameters: tuple[Type, ...], result: Type) -> Candidate:
    return Candidate(entry, parameters, result, any(map(has_variable, (*parameters, result))))


_INT = Type("int")
_INDEX = (
    _candidate(None, (list_of(_A), _INT), _A),
    _candidate(None, (map_of(_A, _B), _A), _B),
    _candidate(None, (optional_of(list_of(_A)), _INT), optional_of(_A)),
    _candidate(None, (optional_of(map_of(_A, _B)), _A), optional_of(_B)),
)
_OPTIONAL_INDEX = (
    _candidate(None, (list_of(_A), _INT), optional_of(_A)),
    _candidate(None, (optional_of(list_of(_A)), _INT), optional_of(_A)),
    _candidate(None, (map_of(_A, _B), _A), optional_of(_B)),
    _candidate(None, (optional_of(map_of(_A, _B)), _A), optional_of(_B)),
)
INDEX, OPTIONAL_INDEX = "_[_]", "_[?_]"

# The order in which the reference tries overloads: the first that fits a type variable binds it.
_COMPARED = """
    bool,bool int,int int,double int,uint uint,uint uint,double uint,int double,double double,int double,uint
    string,string bytes,bytes timestamp,timestamp duration,duration
"""
_ORDERS = {
    "_+_": """
        bytes,bytes double,double duration,duration duration,timestamp timestamp,duration int,int list,list
        string,string uint,uint
    """,
    "_-_": """
        double,double duration,duration int,int timestamp,duration timestamp,timestamp uint,uint
    """,
    "_*_": "double,double int,int uint,uint",
    "_/_": "double,double int,int uint,uint",
    "_%_": "int,int uint,uint",
    "-_": "double int",
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _COMPARED),
    "size": "bytes list map string",
    "bool": "bool string",
    "bytes": "bytes string",
    "double": "double int string uint",
    "duration": "duration string",
    "int": "int double duration string timestamp uint",
    "string": "string bool bytes double duration int timestamp uint ip cidr",
    "timestamp": "timestamp int string",
    "uint": "uint double int string",
}

Resolution = tuple[tuple[Entry, ...], Type]


@dataclass(frozen=True, slots=True)
class Environment:
    """What one release knows.

    Attributes:
        release: Such as `1.36`.
        functions: Overloads by name and whether they are methods.
        attribute: The type of an attribute.
        device_fields: Types of the fields of `device`.
        newer_parser: Whether names can stand in backquotes, as from 1.37 on.
        spaces: Last parts of functions' names that have dots, as in `optional.of`.
        resolutions: What calls with certain types were resolved to, so far.
    """

    release: str
    functions: Mapping[tuple[str, bool], tuple[Candidate, ...]]
    attribute: Type
    device_fields: Mapping[str, Type]
    newer_parser: bool
    spaces: frozenset[str]
    resolutions: dict[tuple[object, ...], Resolution] = field(default_factory=dict)

    def overloads(self, name: str, *, method: bool) -> tuple[Candidate, ...]:
        """Give the overloads of a function, none if it does not exist."""
        return self.functions.get((name, method), ())

    def accepts_result(self, result: Type) -> bool:
        """Say whether an expression of a type can be a selector: what might be an attribute can."""
        return result in {BOOL, self.attribute}


@functools.lru_cache(maxsize=8 * len(RELEASES))
def environment(release: str, *, list_attributes: bool = True, stored: bool = True) -> Environment:
    """Give the environment of a release.

    Args:
        release: Such as `1.36`.
        list_attributes: Whether the gate DRAListTypeAttributes is on, where the release has it.
        stored: Whether expressions are those of objects that exist, as for the scheduler.

    Raises:
        InvalidInputError: A release that we know nothing about.
    """
    version = RELEASES.get(release)
    if version is None:
        raise InvalidInputError(
            f"Kubernetes {release[:16]!r} is not known", remedy=f"Use one of {', '.join(RELEASES)}."
        )
    # What was there before 1.34 counts as of 1.34.
    limit = version if stored else max(FIRST, (version[0], version[1] - 1))
    lists = version >= _LISTS_SINCE and (list_attributes or (stored and version >= _NEW_PARSER))
    functions: dict[tuple[str, bool], tuple[Candidate, ...]] = {
        (INDEX, False): _INDEX,
        (OPTIONAL_INDEX, False): _OPTIONAL_INDEX,
    }
    for entry in REGISTRY:
        if not entry.exists_in(limit):
            continue
        if entry.name in _GATED and not (stored or list_attributes):
            continue
        key = (entry.name, entry.method)
        functions[key] = (*functions.get(key, ()), _candidate(entry, entry.parameters, entry.result))
    for key in list(functions):
        if key[0] in _ORDERS:
            functions[key] = _ordered(functions[key], _ORDERS[key[0]].split())
    attribute = DYN if lists else ANY
    fields = {
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, attribute)),
        "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
        "allowMultipleAllocations": BOOL,
    }
    spaces = frozenset(name.rpartition(".")[2] for name, _ in functions if "." in name)
    return Environment(release, functions, attribute, fields, version >= _NEW_PARSER, spaces)


def _ordered(candidates: tuple[Candidate, ...], order: list[str]) -> tuple[Candidate, ...]:
    places = {names: place for place, names in enumerate(order)}

    def place(candidate: Candidate) -> int:
        return places.get(",".join(one.name for one in candidate.parameters), len(places))

    return tuple(sorted(candidates, key=place))
