"""Selectors in CEL from texts that anybody may have written.

Limits: a text becomes a string literal in which nothing but letters, digits and harmless signs stand for
themselves; all else is escaped by its code point. Texts that CEL has no literal for are refused.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from driver.conversion.errors import LegacyChoiceError

_ATTRIBUTES = 'device.attributes["dragoman.dev"]'
HELD_BY_MPS = f'{_ATTRIBUTES}.coresIsolation == "service"'
"""True for cards whose caps on compute MPS holds."""
HELD = f'{_ATTRIBUTES}.memoryIsolation != "none"'
"""True for cards of which something holds limits of memory."""
_PLAIN = frozenset(string.ascii_letters + string.digits + " -_.:/+()[]{}<>=*#@!?,;|&%$^~'")


def literal(text: str, *, field: str) -> str:
    """A string literal.

    Raises:
        LegacyChoiceError: The text holds half a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LegacyChoiceError(
            "The text is not Unicode.", field=field, remedy="Write the name as the cards have it."
        ) from None
    return '"' + "".join(one if one in _PLAIN else _escaped(one) for one in text) + '"'


def one_of(attribute: str, texts: Sequence[str], *, field: str, domain: str = "dragoman.dev") -> str:
    """True for devices that have the attribute, with one of these values."""
    listed = ", ".join(literal(text, field=field) for text in texts)
    attributes = f'device.attributes["{domain}"]'
    return f'("{attribute}" in {attributes} && {attributes}.{attribute} in [{listed}])'


def model_is(models: Sequence[str], *, field: str) -> str:
    """True for cards of one of these models, regardless of case."""
    listed = ", ".join(literal(lowered(one), field=field) for one in models)
    return f"{_ATTRIBUTES}.model.lowerAscii() in [{listed}]"


def type_contains(texts: Sequence[str], *, prefix: str, field: str) -> str:
    """True for cards whose type, the prefix and the model, contains one of these texts, whatever the case."""
    kind = f"{_ATTRIBUTES}.model.lowerAscii()"
    if prefix:
        kind = f"({literal(lowered(prefix), field=field)} + {kind})"
    return " || ".join(f"{kind}.contains({literal(lowered(text), field=field)})" for text in texts)


def vendor_is(vendor: str) -> str:
    """True for devices of a vendor, by its short name: a class for partitions has those of all vendors."""
    return f'{_ATTRIBUTES}.vendor == "{vendor}"'


def profile_is(profile: str) -> str:
    """True for partitions of this profile, as the vendor's table names it."""
    return f'("profile" in {_ATTRIBUTES} && {_ATTRIBUTES}.profile == "{profile}")'


def memory_is(operator: str, mib: int) -> str:
    """True for cards with as much memory (`==`), or with at least as much (`>=`)."""
    return f'device.capacity["dragoman.dev"].memory.compareTo(quantity("{mib}Mi")) {operator} 0'


def lowered(text: str) -> str:
    """As `lowerAscii` in CEL: other letters than those of ASCII stay as they are."""
    return text.translate(_LOWER)


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _escaped(one: str) -> str:
    point = ord(one)
    return f"\\u{point:04x}" if point < 1 << 16 else f"\\U{point:08x}"
