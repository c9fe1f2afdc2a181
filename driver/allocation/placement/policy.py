"""What an administrator wishes of placement, as words.

Purpose: one frozen value, read strictly, so that a misspelt word is an error and not a silent first fit.

Flow: `PlacementPolicy.parse` takes the settings as they come from flags, a policy object or a file.

Limits: the words say what is preferred, not what is allowed: see `driver.allocation.placement`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from driver.errors import ConfigError

MAX_TOPOLOGY = 8
"""How many attributes a topology may name; each costs searches on each node that is looked at."""

_QUALIFIED = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z_][A-Za-z0-9_]{0,31}")
_KEYS = ("nodes", "cards", "topology", "topologyAttributes")


class Strategy(StrEnum):
    """How to choose among nodes, or among the cards of a node."""

    FIRST_FIT = "first-fit"
    BINPACK = "binpack"
    SPREAD = "spread"
    BEST_FIT = "best-fit"


class Wish(StrEnum):
    """How much it matters that devices of one claim are close together."""

    NONE = "none"
    PREFERRED = "preferred"
    REQUIRED = "required"


DEFAULT_TOPOLOGY = ("resource.kubernetes.io/pcieRoot", "resource.kubernetes.io/numaNode")

_Word = TypeVar("_Word", Strategy, Wish)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """How claims are placed.

    Attributes:
        nodes: Which of the nodes that fit: `first-fit` by name; `binpack` the fullest; `spread` the emptiest;
            `best-fit` the one with the card on which the least is left over, in both dimensions.
        cards: The same for the cards of a node.
        topology: Whether devices of one claim should, or must, be close together.
        topology_attributes: Qualified names of attributes whose equal values mean "close", the closest first.
            A list-valued attribute names all groups that a device belongs to; one in common is enough.
    """

    nodes: Strategy = Strategy.FIRST_FIT
    cards: Strategy = Strategy.FIRST_FIT
    topology: Wish = Wish.NONE
    topology_attributes: tuple[str, ...] = DEFAULT_TOPOLOGY

    @classmethod
    def parse(cls, settings: Mapping[str, Any] | None, *, field: str = "placement") -> PlacementPolicy:
        """Read settings: `nodes`, `cards`, `topology` and `topologyAttributes`, all of them optional.

        Args:
            settings: Words by name; None or empty means kube-scheduler's first fit.
            field: Path of the settings, for errors.

        Raises:
            ConfigError: An unknown name or word, or attributes that are none.
        """
        if settings is None:
            return cls()
        if not isinstance(settings, Mapping):
            raise ConfigError(
                f"{_shown(settings)} is no set of settings.",
                field=field,
                remedy="Write names and words, for example nodes: binpack.",
            )
        for name in settings:
            if name not in _KEYS:
                raise ConfigError(
                    f"{_shown(name)} is not known here.", field=field, remedy=f"Use {_listed(_KEYS)}."
                )
        wish = _word(Wish, settings.get("topology", Wish.NONE), f"{field}.topology")
        attributes: tuple[str, ...] = DEFAULT_TOPOLOGY
        if "topologyAttributes" in settings:
            where = f"{field}.topologyAttributes"
            if wish is Wish.NONE:
                raise ConfigError(
                    "Attributes without a topology would do nothing.",
                    field=where,
                    remedy="Set topology to preferred or required.",
                )
            attributes = _attributes(settings["topologyAttributes"], where)
        return cls(
            nodes=_word(Strategy, settings.get("nodes", Strategy.FIRST_FIT), f"{field}.nodes"),
            cards=_word(Strategy, settings.get("cards", Strategy.FIRST_FIT), f"{field}.cards"),
            topology=wish,
            topology_attributes=attributes,
        )


FIRST_FIT = PlacementPolicy()
"""kube-scheduler's own: nodes by name, cards as published."""


def _word(kind: type[_Word], value: object, field: str) -> _Word:
    words = {str(one): one for one in kind}
    if isinstance(value, str) and value in words:
        return words[value]
    raise ConfigError(
        f"{_shown(value)} is not known here.", field=field, remedy=f"Use {_listed(list(words))}."
    )


def _attributes(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ConfigError(
            f"{_shown(value)} is no list of attributes.",
            field=field,
            remedy=f"Name attributes, the closest first, for example [{DEFAULT_TOPOLOGY[0]}].",
        )
    if len(value) > MAX_TOPOLOGY:
        raise ConfigError(
            f"{len(value)} attributes are too many.", field=field, remedy=f"Name at most {MAX_TOPOLOGY}."
        )
    for place, one in enumerate(value):
        where = f"{field}[{place}]"
        if not isinstance(one, str) or len(one) > 97 or not _QUALIFIED.fullmatch(one):
            raise ConfigError(
                f"{_shown(one)} is no qualified name of an attribute.",
                field=where,
                remedy=f"Write domain/name, for example {DEFAULT_TOPOLOGY[0]}.",
            )
        if one in value[:place]:
            raise ConfigError(f"{one} is named twice.", field=where, remedy="Name it once.")
    return tuple(value)


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
