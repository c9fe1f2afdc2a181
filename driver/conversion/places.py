"""Where in a pod stands what is wrong with its claim template.

Purpose: templates of converted pods are looked over before the pod is stored; whoever made the pod has never
seen the template, and has to be told the path in the pod.

Limits: what concerns several requests is of no single container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_REQUEST = re.compile(r"spec\.spec\.devices\.requests\[([0-9]{1,2})\](\S*)")
_IN_FRONT = re.compile(r"(spec\.spec\S*): ")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request comes from.

    Attributes:
        limits: Path of the container's limits.
        asked: The names in the container that it comes from, by role: `count`, `memory`, `memory_percent`,
            `cores`, `priority`; at least one.
    """

    limits: str
    asked: Mapping[str, str]

    def of(self, rest: str) -> str:
        """The path for a field of the request."""
        wanted = ["count"]
        if ".selectors" in rest:
            return "metadata.annotations"
        if rest.endswith("memory"):
            wanted = ["memory", "memory_percent", "count"]
        elif rest.endswith("cores"):
            wanted = ["cores", "count"]
        role = next((one for one in wanted if one in self.asked), min(self.asked))
        return f"{self.limits}[{self.asked[role]}]"


def in_the_pod(field: str, places: Sequence[Place]) -> str:
    """The path in the pod for a path in its template; places are in the order of the requests."""
    found = _REQUEST.fullmatch(field)
    if found is None or int(found[1]) >= len(places):
        return "spec.containers" if field.startswith("spec.spec") else field
    return places[int(found[1])].of(found[2])


def sentence_for_the_pod(sentence: str, places: Sequence[Place]) -> str:
    """A sentence that begins with a path in the template, with the path in the pod."""
    found = _IN_FRONT.match(sentence)
    if found is None:
        return sentence
    return f"{in_the_pod(found[1], places)}: {sentence[found.end() :]}"
