"""Semantic versions, as attributes hold them and `semver()` reads them.

Purpose: parsing and ordering of versions by semver 2.0.0, the way the API server's library does it.

Flow: `Version.parse` is strict; `normalize` first drops a leading `v` and leading zeros and fills up
missing parts.

Limits: the three numbers are unsigned 64 bit; build data plays no part in comparisons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = r"0|[1-9][0-9]{0,19}"
_LABEL = r"0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*"
_SHAPE = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<pre>(?:{_LABEL})(?:\.(?:{_LABEL}))*))?(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)
_UINT_LIMIT = 1 << 64
# Python refuses to read longer numbers; no version has any such part.
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Version:
    """A version.

    Attributes:
        order: Sorts as semver says.
        text: As written, after normalizing.
    """

    order: tuple[tuple[int, int, int], tuple[tuple[int, int, str], ...]]
    text: str

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Read a version; None where it is none."""
        shape = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
        if shape is None:
            return None
        numbers = (int(shape["major"]), int(shape["minor"]), int(shape["patch"]))
        if max(numbers) >= _UINT_LIMIT:
            return None
        # A release sorts after all its pre-releases; numbers sort before words.
        labels: tuple[tuple[int, int, str], ...] = ((2, 0, ""),)
        if shape["pre"] is not None:
            labels = tuple(
                (0, int(label), "") if label.isdigit() else (1, 0, label) for label in shape["pre"].split(".")
            )
            if any(number >= _UINT_LIMIT for _, number, _ in labels):
                return None
        return cls((numbers, labels), text)


def normalize(text: str) -> str | None:
    """Bring a tolerated spelling into the strict form; None where that cannot be."""
    parts = text.removeprefix("v").split(".", 2)
    for place, part in enumerate(parts):
        if len(part) > 1:
            stripped = part.lstrip("0")
            parts[place] = stripped if stripped[:1].isdigit() else f"0{stripped}"
    if len(parts) < 3:
        if any(sign in parts[-1] for sign in "+-"):
            return None
        parts += ["0"] * (3 - len(parts))
    return ".".join(parts)
