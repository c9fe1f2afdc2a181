"""Where in a pod stands what is wrong with its claim template.

Purpose: templates of converted pods are looked over before the pod is stored; whoever made the pod has never
seen the template, and has to be told the path in the pod.

Limits: what concerns several requests is of no single container.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_REQUEST = re.compile(r"spec\.spec\.devices\.requests\[([0-9]{1,2})\](\S*)")
_SELECTOR = re.compile(r"\.(exactly|firstAvailable\[[0-9]\])\.(selectors\[[0-9]{1,2}\])")
_IN_FRONT = re.compile(r"(spec\.spec\S*): ")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a request comes from.

    Attributes:
        limits: Path of the container's limits.
        asked: The names in the container that it comes from, by role: `count`, `memory`, `memory_percent`,
            `cores`, `priority`; at least one.
        chosen: Paths of the annotations that its selectors come from, as `selectors_from` gives them.
    """

    limits: str
    asked: Mapping[str, str]
    chosen: Mapping[str, str] = field(default_factory=dict)

    def of(self, rest: str) -> str:
        """The path for a field of the request."""
        wanted = ["count"]
        selector = _SELECTOR.match(rest)
        if selector is not None and selector[0] in self.chosen:
            return self.chosen[selector[0]]
        if rest.endswith("memory"):
            wanted = ["memory", "memory_percent", "count"]
        elif rest.endswith("cores"):
            wanted = ["cores", "count"]
        role = next((one for one in wanted if one in self.asked), min(self.asked))
        return f"{self.limits}[{self.asked[role]}]"


def selectors_from(request: Mapping[str, Any], because: Mapping[str, str]) -> dict[str, str]:
    """By the path of a selector in a request, the path that `because` has for its expression."""
    options = {f".firstAvailable[{at}]": one for at, one in enumerate(request.get("firstAvailable") or ())}
    return {
        f"{path}.selectors[{at}]": because[one["cel"]["expression"]]
        for path, option in (options or {".exactly": request["exactly"]}).items()
        for at, one in enumerate(option.get("selectors") or ())
        if one["cel"]["expression"] in because
    }


def in_the_pod(path: str, places: Sequence[Place]) -> str:
    """The path in the pod for a path in its template; places are in the order of the requests."""
    found = _REQUEST.fullmatch(path)
    if found is None or int(found[1]) >= len(places):
        return "spec.containers" if path.startswith("spec.spec") else path
    return places[int(found[1])].of(found[2])


def sentence_for_the_pod(sentence: str, places: Sequence[Place]) -> str:
    """A sentence that begins with a path in the template, with the path in the pod."""
    found = _IN_FRONT.match(sentence)
    if found is None:
        return sentence
    return f"{in_the_pod(found[1], places)}: {sentence[found.end() :]}"
