"""Random selectors, devices and changes, for holding the index against the evaluator.

The attributes are few and their values too, so that devices often agree, and often disagree in type only.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from driver.cel import DeviceView

DRIVER = "gpu.example.com"
DOMAINS = (DRIVER, "other.example.com", "absent.example.com")
NAMES = ("model", "count", "ready", "version", "tags", "sizes", "missing")
STRINGS = ("a", "ab", "abc", "1.2.3", "10Gi", "")
VERSIONS = ("1.2.3", "1.2.3+build", "1.10.0", "2.0.0-rc.1")
QUANTITIES = ("10Gi", "10240Mi", "1.5Gi", "1536Mi", "1", "0.5", "500m", "1k")

_words = st.sampled_from(STRINGS).map(lambda text: {"string": text})
_ints = st.integers(-1, 3).map(lambda number: {"int": number})
_bools = st.booleans().map(lambda truth: {"bool": truth})
_versions = st.sampled_from(VERSIONS).map(lambda text: {"version": text})
_string_lists = st.lists(st.sampled_from(STRINGS), min_size=1, max_size=2).map(lambda some: {"strings": some})
_int_lists = st.lists(st.integers(0, 2), min_size=1, max_size=2).map(lambda some: {"ints": some})
_anything: st.SearchStrategy[Any] = st.one_of(_words, _ints, _bools, _versions, _string_lists, _int_lists)
_unreadable = st.just({"version": "1.x"})
_USUAL: dict[str, st.SearchStrategy[Any]] = {
    "model": _words,
    "count": _ints,
    "ready": _bools,
    "version": _versions,
    "tags": _string_lists,
    "sizes": _int_lists,
}


@st.composite
def devices(draw: st.DrawFn) -> DeviceView:
    """A device; one in twenty cannot be read."""
    attributes: dict[str, Any] = {}
    for name, usual in _USUAL.items():
        for prefix in ("", f"{DRIVER}/", "other.example.com/"):
            if draw(st.integers(0, 3)):
                continue
            # Twice in the same place is possible, too: the name with the driver's domain and without it.
            typed = usual if draw(st.integers(0, 4)) else _anything
            attributes[prefix + name] = draw(typed)
    if not draw(st.integers(0, 19)):
        attributes["broken"] = draw(_unreadable)
    capacity = {
        name: {"value": draw(st.sampled_from(QUANTITIES))}
        for name in ("memory", "cores", "other.example.com/memory")
        if draw(st.booleans())
    }
    device: dict[str, Any] = {"name": "d", "attributes": attributes, "capacity": capacity}
    if draw(st.booleans()):
        device["allowMultipleAllocations"] = draw(st.booleans())
    return DeviceView.build(device, driver=draw(st.sampled_from((DRIVER, DRIVER, "other.example.com"))))


def _quoted(text: str) -> str:
    return f'"{text}"'


_domain = st.sampled_from((DRIVER, DRIVER, DRIVER, *DOMAINS)).map(_quoted)
_name = st.sampled_from(NAMES)
_string = st.sampled_from(STRINGS).map(_quoted)
_int = st.integers(-1, 3).map(str)
_scalar = st.one_of(
    _string, _string, _int, _int, st.sampled_from(("true", "false", "1u", "1.0", "0.5", "null", 'b"a"'))
)


@st.composite
def _attribute(draw: st.DrawFn, name: st.SearchStrategy[str] = _name) -> str:
    form = draw(st.sampled_from(("{d}.{n}", "{d}.{n}", "{d}.{n}", '{d}["{n}"]')))
    return form.format(d=f"device.attributes[{draw(_domain)}]", n=draw(name))


@st.composite
def _optional(draw: st.DrawFn) -> str:
    form = draw(
        st.sampled_from(
            (
                "device.attributes[{d}].?{n}",
                "device.attributes[?{d}].{n}",
                "device.attributes[?{d}].?{n}",
                'device.attributes[{d}][?"{n}"]',
            )
        )
    )
    return form.format(d=draw(_domain), n=draw(_name))


_memory = st.tuples(_domain, st.sampled_from(("memory", "cores", "missing"))).map(
    lambda pair: f"device.capacity[{pair[0]}].{pair[1]}"
)
_version = st.one_of(
    _attribute(st.just("version")),
    st.sampled_from(VERSIONS).map(lambda text: f'semver("{text}")'),
    st.sampled_from(("1.2", "v1.2.3")).map(lambda text: f'semver("{text}", true)'),
)
_quantity = st.one_of(_memory, st.sampled_from(QUANTITIES).map(lambda text: f'quantity("{text}")'))
_value = st.one_of(
    _attribute(),
    _attribute(),
    _optional().flatmap(lambda some: _scalar.map(lambda other: f"{some}.orValue({other})")),
    st.just("device.driver"),
    st.just("device.allowMultipleAllocations"),
    _memory,
    _scalar,
)
_list = st.one_of(
    _attribute(st.sampled_from(("tags", "sizes"))),
    st.lists(_string, max_size=3).map(lambda some: f"[{', '.join(some)}]"),
    st.lists(_int, max_size=3).map(lambda some: f"[{', '.join(some)}]"),
    st.lists(st.one_of(_attribute()), min_size=1, max_size=2).map(lambda some: f"[{', '.join(some)}]"),
)
_comparison = st.sampled_from(("==", "==", "!=", "!=", "<", "<=", ">", ">="))
_order = st.sampled_from(("isGreaterThan", "isLessThan"))
_string_test = st.sampled_from(("startsWith", "endsWith", "contains", "matches"))


def _joined(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


_TESTS = st.one_of(
    # Looked up.
    _joined(_attribute(), " ", _comparison, " ", _scalar),
    _joined(_scalar, " ", _comparison, " ", _attribute()),
    _joined("device.driver ", _comparison, " ", _string),
    _joined(_attribute(), " in ", _list),
    _joined("has(", _attribute().filter(lambda text: not text.endswith("]")), ")"),
    _joined(_string, " in device.attributes[", _domain, "]"),
    _joined(_name.map(_quoted), " in device.attributes[", _domain, "]"),
    _joined(_domain, " in device.", st.sampled_from(("attributes", "capacity"))),
    _attribute(st.sampled_from(("ready", "model", "count"))),
    st.sampled_from(("device.allowMultipleAllocations", "has(device.attributes.foo)", "has(device.driver)")),
    # Evaluated for values.
    _joined(_memory, ".compareTo(", _quantity, ") ", _comparison, " ", _int),
    _joined(_memory, ".", _order, "(", _quantity, ")"),
    _joined(_memory, ".isInteger()"),
    _joined(_memory, " ", st.sampled_from(("==", "!=")), " ", _quantity),
    _joined(_attribute(st.just("version")), ".compareTo(", _version, ") ", _comparison, " ", _int),
    _joined(_version, ".", _order, "(", _version, ")"),
    _joined(_attribute(st.just("model")), ".", _string_test, "(", _string, ")"),
    _joined(
        _attribute(st.sampled_from(("count", "sizes", "model"))), " + ", _int, " ", _comparison, " ", _int
    ),
    _joined("size(", _attribute(st.sampled_from(("tags", "model", "count"))), ") ", _comparison, " ", _int),
    _joined(_optional(), ".orValue(", _scalar, ") ", _comparison, " ", _scalar),
    _joined(_optional(), ".hasValue()"),
    _joined(_scalar, " in ", _list),
    # Of several columns.
    _joined(_value, " ", _comparison, " ", _value),
    _joined(_attribute(), " in [", _attribute(), "]"),
    # Of whatever the device has.
    _joined("size(device.attributes[", _domain, "]) ", _comparison, " ", _int),
    _joined("size(device.attributes) ", _comparison, " ", _int),
    _joined("device.attributes[device.driver].", _name, " ", _comparison, " ", _scalar),
    # Constants.
    st.sampled_from(("true", "false", "1 / 0 == 1", "1 < 2", '"a" in ["a", "b"]')),
)

_MACROS = st.one_of(
    _joined(
        _list, ".", st.sampled_from(("exists", "all", "exists_one")), "(x, x ", _comparison, " ", _scalar, ")"
    ),
    _joined(_list, ".exists(device, device ", _comparison, " ", _scalar, ")"),
    _joined("size(", _list, ".filter(x, x == ", _attribute(), ")) ", _comparison, " ", _int),
    _joined(_attribute(st.just("tags")), ".map(x, x + ", _string, ")[0] == ", _string),
    _joined("device.attributes.exists(d, d == ", _domain, ")"),
    _joined("device.attributes[", _domain, "].exists(k, k == ", _name.map(_quoted), ")"),
    _joined("device.attributes.all(d, device.attributes[d].", _name, " == ", _scalar, ")"),
    _joined(
        "device.attributes.exists(d, v, v.exists(k, w, k == ", _name.map(_quoted), " && w == ", _scalar, "))"
    ),
    _joined(_optional(), ".optMap(x, x == ", _scalar, ").orValue(", st.sampled_from(("true", "false")), ")"),
)


# What only some values can do, what ends an evaluation, and what looks at several columns in other ways.
_FUNCTIONS = st.one_of(
    _joined(_attribute(), ".includes(", _scalar, ")"),
    _joined("sets.", st.sampled_from(("contains", "intersects")), "(", _list, ", ", _list, ")"),
    _joined(_attribute(st.just("model")), ".lowerAscii().", _string_test, "(", _string, ")"),
    _joined("string(", _attribute(), ") ", _comparison, " ", _string),
    _joined("int(", _attribute(), ") ", _comparison, " ", _int),
    _joined("type(", _attribute(), ") == ", st.sampled_from(("string", "int", "bool", "list", "type(1u)"))),
    _joined(
        _attribute(st.sampled_from(("tags", "model"))),
        ".",
        st.sampled_from(("sort", "distinct")),
        "() == ",
        _list,
    ),
    _joined("{'a': 2, 'ab': 3}[", _attribute(), "] == ", _int),
    _joined("{", _attribute(), ": 1}.size() ", _comparison, " ", _int),
    _joined("[1, 2, 3][", _attribute(), "] ", _comparison, " ", _int),
    _joined(_list, "[0] == ", _scalar),
    _joined(_attribute(), " in {'a': 1, 'ab': 2}"),
    _joined("quantity(", _attribute(st.just("model")), ").isGreaterThan(", _quantity, ")"),
    _joined("isSemver(", _attribute(st.sampled_from(("model", "version"))), ")"),
    _joined(_version, ".major() ", _comparison, " ", _int),
    _joined(_memory, ".add(", _quantity, ") == ", _quantity),
    _joined("[", _attribute(), ", ", _attribute(), "] == [", _attribute(), ", ", _attribute(), "]"),
    _joined("dyn([", _attribute(), "]).exists(x, x in ['a', 'b'])"),
    _joined("device.attributes[", _domain, "].transformList(k, v, v == ", _scalar, ")[0]"),
    _joined("optional.of(", _attribute(), ").orValue(", _scalar, ") == ", _scalar),
    _joined("'%s'.format([", _attribute(), "]) == ", _string),
)


def _bound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _joined(
            "cel.bind(a, device.attributes[", _domain, "], a.", _name, " == ", _scalar, " || ", inner, ")"
        ),
        _joined("cel.bind(v, ", _attribute(), ", (v == ", _scalar, " && ", inner, ") || v in ", _list, ")"),
        _joined("cel.bind(device, ", _attribute(), ", device == ", _scalar, ")"),
        _joined(
            "cel.bind(d, device, ", inner, " && d.attributes[", _domain, "].", _name, " == ", _scalar, ")"
        ),
        _joined("cel.bind(b, ", inner, ", b || !b && ", inner, ")"),
    )


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        _joined("(", inner, " && ", inner, ")"),
        _joined("(", inner, " || ", inner, ")"),
        _joined("(", inner, " && ", inner, " && ", inner, ")"),
        _joined("!(", inner, ")"),
        _joined("(", inner, " ? ", inner, " : ", inner, ")"),
        _joined("(", inner, ") == (", inner, ")"),
        _joined("((", inner, ") ? ", _value, " : ", _value, ") ", _comparison, " ", _scalar),
        _bound(inner),
    )


def selectors() -> st.SearchStrategy[str]:
    """Selectors; most compile."""
    return st.recursive(st.one_of(_TESTS, _TESTS, _MACROS, _FUNCTIONS), _nested, max_leaves=6)
