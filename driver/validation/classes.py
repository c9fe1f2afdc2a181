"""What is wrong with a DeviceClass.

Flow: its configuration for our driver is decoded as a claim's is; selectors of a class of ours have to
compile, and are held against the cluster's cards.

Limits: of other drivers' classes only what they say to ours is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driver.errors import ConfigError
from driver.validation.configs import conflicts, read_configs
from driver.validation.errors import ObjectTooLargeError, ObjectUnreadableError
from driver.validation.facts import ClusterFacts
from driver.validation.findings import Notes
from driver.validation.limits import MAX_SELECTORS
from driver.validation.reading import as_mapping, entries, mapping, text
from driver.validation.selectors import Selectors


def check_class(found: Mapping[str, Any], *, facts: ClusterFacts, notes: Notes) -> None:
    """Notes what is wrong with a class."""
    try:
        spec = mapping(found, "spec", field="")
        configs = read_configs(spec, field="spec", notes=notes)
        for one in configs:
            if one.config.capacity is not None:
                notes.refuse(
                    ConfigError(
                        "A class asks for nothing: amounts stand in claims.",
                        field=f"{one.field}.capacity",
                        remedy="Leave it out.",
                    )
                )
        conflicts(configs, [""], asked={}, notes=notes)
        if facts.class_is_ours(found):
            _check_selectors(spec, facts=facts, notes=notes)
    except (ObjectUnreadableError, ObjectTooLargeError) as odd:
        notes.refuse(odd)


def _check_selectors(spec: Mapping[str, Any], *, facts: ClusterFacts, notes: Notes) -> None:
    selectors = Selectors(facts, notes)
    compiled = []
    listed = entries(spec, "selectors", field="spec", most=MAX_SELECTORS)
    for place, one in enumerate(listed):
        where = f"spec.selectors[{place}]"
        cel = mapping(as_mapping(one, field=where), "cel", field=where)
        expression = text(cel, "expression", field=f"{where}.cel")
        selector = selectors.compiled(expression, field=f"{where}.cel.expression")
        if selector is not None:
            compiled.append((f"{where}.cel.expression", selector))
    if notes.failed or len(compiled) < len(listed) or not facts.cards.every:
        return
    picked = selectors.pick(facts.cards.every, compiled)
    if picked.cards == 0:
        notes.warn(picked.sentence, field=picked.field)
