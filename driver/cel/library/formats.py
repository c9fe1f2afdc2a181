"""Named formats: Kubernetes' library for checking strings.

Purpose: `!format.dns1123Label().validate(name).hasValue()`.

Flow: each format is a function that lists what is wrong; `validate` gives the list as an optional.

Limits: the texts are Kubernetes' of 1.36, but for some details of what is wrong with a URL.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable

from driver.cel.library import costs
from driver.cel.library.entry import overload
from driver.cel.library.go_text import quoted
from driver.cel.library.go_urls import UrlError, parse
from driver.cel.library.time_text import read_timestamp
from driver.cel.values import NONE, Format, OptionalValue

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = f"{_LABEL}(\\.{_LABEL})*"
_OLD_LABEL = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_UUID = re.compile("-?".join(f"[0-9A-Fa-f]{{{length}}}" for length in (8, 4, 4, 4, 12)))
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.[0-9]+)?(?:z|[+-][0-9]{2}:[0-9]{2})")
_LONGEST_LABEL, _LONGEST_SUBDOMAIN = 63, 253

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_OLD_LABEL_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_VALUE_TEXT = f"a valid label must be an empty string or {_KEY_TEXT.removeprefix('must ')}"


def _unlike(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def _too_long(text: str, limit: int, unit: str = "characters") -> list[str]:
    return [f"must be no more than {limit} {unit}"] if len(text.encode()) > limit else []


def _label(text: str) -> list[str]:
    problems = _too_long(text, _LONGEST_LABEL)
    if re.fullmatch(_LABEL, text) is None:
        if re.fullmatch(_SUBDOMAIN, text) is not None:
            return [*problems, "must not contain dots"]
        problems.append(_unlike(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return problems


def _subdomain(text: str, unit: str = "characters") -> list[str]:
    problems = _too_long(text, _LONGEST_SUBDOMAIN, unit)
    if re.fullmatch(_SUBDOMAIN, text) is None:
        problems.append(_unlike(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return problems


def _old_label(text: str) -> list[str]:
    problems = _too_long(text, _LONGEST_LABEL)
    if re.fullmatch(_OLD_LABEL, text) is None:
        problems.append(_unlike(_OLD_LABEL_TEXT, _OLD_LABEL, "my-name", "abc-123"))
    return problems


def _key(text: str) -> list[str]:
    problems: list[str] = []
    unlike = _unlike(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a valid label key {unlike} {optional}"]
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif slash:
        problems += [f"prefix part {problem}" for problem in _subdomain(prefix, "bytes")]
    if not name:
        problems.append("name part must be non-empty")
    problems += [f"name part {problem}" for problem in _too_long(name, _LONGEST_LABEL, "bytes")]
    if re.fullmatch(_KEY, name) is None:
        problems.append(f"name part {unlike}")
    return problems


def _value(text: str) -> list[str]:
    problems = _too_long(text, _LONGEST_LABEL, "bytes")
    if re.fullmatch(_VALUE, text) is None:
        problems.append(_unlike(_VALUE_TEXT, _VALUE, "MyValue", "my_value", "12345"))
    return problems


def _prefix_of(problems: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    def of_prefix(text: str) -> list[str]:
        # A dash at the end may be followed by more; what stands before it counts too, as there.
        if len(text) > 1 and text.endswith("-"):
            text = f"{text.encode()[:-2].decode(errors='replace')}a"
        return problems(text)

    return of_prefix


def _uri(text: str) -> list[str]:
    try:
        parse(text, request=True)
    except UrlError as error:
        return [f"parse {quoted(text)}: {error}"]
    return []


def _is_date(text: str) -> bool:
    return len(text) == 10 and read_timestamp(f"{text}T00:00:00Z") is not None


def _is_datetime(text: str) -> bool:
    parts = text.lower().split("t")
    if len(parts) < 2 or not _is_date(parts[0]):
        return False
    clock = _CLOCK.fullmatch(parts[1])
    return clock is not None and clock[1] <= "23" and clock[2] <= "59" and clock[3] <= "59"


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return bool(text) and len(text) % 4 == 0


def _unless(valid: Callable[[str], bool], problem: str) -> Callable[[str], list[str]]:
    return lambda text: [] if valid(text) else [problem]


FORMATS = {
    "dns1123Label": Format("DNS1123Label", _label, 30),
    "dns1123Subdomain": Format("DNS1123Subdomain", _subdomain, 60),
    "dns1035Label": Format("DNS1035Label", _old_label, 30),
    "qualifiedName": Format("QualifiedName", _key, 60),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", _prefix_of(_label), 30),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", _prefix_of(_subdomain), 60),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", _prefix_of(_old_label), 30),
    "labelValue": Format("LabelValue", _value, 40),
    "uri": Format("URI", _uri, 1103),
    "uuid": Format(
        "uuid", _unless(lambda text: _UUID.fullmatch(text) is not None, "does not match the UUID format"), 70
    ),
    "byte": Format("byte", _unless(_is_base64, "invalid base64"), 84),
    "date": Format("date", _unless(_is_date, "invalid date"), 71),
    "datetime": Format("datetime", _unless(_is_datetime, "invalid datetime"), 71),
}


def _register() -> None:
    for name, value in FORMATS.items():
        overload(f"format.{name}() -> format")(lambda value=value: value)


_register()


@overload("format.named(string) -> optional(format)")
def _named(name: str) -> OptionalValue:
    value = FORMATS.get(name)
    return NONE if value is None else OptionalValue(present=True, value=value)


def _cost(value: Format, text: str) -> int:
    # Enough for a URL too: its pattern is the longest by far.
    return costs.traversed(1 + len(text)) * math.ceil(value.pattern_size * costs.PATTERN)


@overload("validate(format, string) -> optional(list(string))", method=True, cost=_cost)
def _validate(value: Format, text: str) -> OptionalValue:
    problems = value.problems(text)
    return OptionalValue(present=True, value=problems) if problems else NONE
