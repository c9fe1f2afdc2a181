"""AcceleratorPolicies as those read them who have to go by them, whatever version wrote them.

Purpose: while agents are updated, some know fields that others do not. One that dropped a whole policy for a
field that it does not know would offer cards that the policy excludes. So what is known and can be used
holds, and the rest is named; strict is admission (`driver.validation`).

Rules: a field that is not known, or whose value cannot be, is left out as if nobody had set it; so is an
override without a UUID. Not so what decides where a policy holds, and before which others (`nodeSelector`,
`priority`): a part of that means other nodes, so the policy is passed over.

Limits: pure; at most `MAX_MISFITS` are named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from driver.api.base import Misfit, decode, misfits_of
from driver.api.policy import AcceleratorPolicySpec
from driver.errors import ConfigError

MAX_MISFITS = 16
_WHOLE = frozenset({"nodeSelector", "priority"})
_CARDS = "cards"
_UUID = "uuid"


def read_policy(
    document: Mapping[str, Any], *, field: str = "spec"
) -> tuple[AcceleratorPolicySpec, tuple[ConfigError, ...]]:
    """What of a policy's spec holds.

    Args:
        document: The spec, as decoded from JSON or YAML.
        field: Its path.

    Returns:
        The spec without what cannot be used, and what that is.

    Raises:
        ConfigError: Nothing of it holds: it is no object, or where it holds cannot be read.
    """
    misfits = misfits_of(AcceleratorPolicySpec, document, field=field)
    if not misfits:
        return decode(AcceleratorPolicySpec, document, field=field), ()
    whole = next((one for one in misfits if not one.place or one.place[0] in _WHOLE), None)
    if whole is not None:
        raise whole.error
    rest = _without(json.loads(json.dumps(document)), misfits)
    return decode(AcceleratorPolicySpec, rest, field=field), tuple(one.error for one in misfits[:MAX_MISFITS])


def _without(spec: dict[str, Any], misfits: Sequence[Misfit]) -> dict[str, Any]:
    gone: set[int] = set()
    for misfit in misfits:
        name, *inside = misfit.place
        if name != _CARDS or not inside or not isinstance(inside[0], int):
            spec.pop(str(name), None)
        elif len(inside) == 1 or inside[1] == _UUID:
            gone.add(inside[0])
        else:
            spec[_CARDS][inside[0]].pop(str(inside[1]), None)
    if gone and _CARDS in spec:
        spec[_CARDS] = [card for place, card in enumerate(spec[_CARDS]) if place not in gone]
    return spec
