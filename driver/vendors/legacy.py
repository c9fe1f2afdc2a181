"""Names of extended resources that people used for a vendor's cards before: data, no conversion.

Purpose: each vendor's file says here what `nvidia.com/gpumem: 4000` and its kin meant, in units that the
driver computes with; who converts pods reads these tables and nothing else.

Flow: constants in a vendor's file -> `VendorFacts.legacy` -> conversion at admission, reference pages.

Limits: a name means what the system that `source` names made of it; where two systems gave one name two
meanings there are two entries.
"""

from __future__ import annotations

from dataclasses import dataclass

from driver.errors import InvalidInputError
from driver.quantities import MIB


@dataclass(frozen=True, kw_only=True, order=True)
class LegacyTemplate:
    """One of the few sizes in which a card can be cut.

    Attributes:
        memory_mib: Memory of the part.
        name: The vendor's name of the size.
        cores: Compute of the part, in the vendor's units.
        cores_of: Compute of the whole card in the same units.
    """

    memory_mib: int
    name: str
    cores: int
    cores_of: int

    @property
    def cores_percent(self) -> int:
        """Compute of the part in whole percent of the card, rounded up."""
        return -(-self.cores * 100 // self.cores_of)


@dataclass(frozen=True, kw_only=True)
class LegacyNames:
    """The names that belong together: one counts cards or parts, the others size them.

    Attributes:
        count: Resource that counts.
        source: Where the meaning was read.
        models: The models that the names are for, as `Card.model`, regardless of case; () for all cards.
        whole: Each counted one is a whole card, whatever else is asked.
        memory: Resource that says how much memory each gets; "" if there is none.
        memory_unit: Bytes of one unit of `memory`.
        memory_percent: Resource that says it in percent of the card; "" if there is none.
        cores: Resource that says how much compute each gets; "" if there is none.
        cores_of: How many units of `cores` are a whole card.
        priority: Resource that gives the priority (0 is high); "" if there is none.
        memory_steps_mib: The only amounts there are: a request gets the next greater one; () for any amount.
        templates: The sizes in which the card can be cut; a request gets the smallest that holds it.
        parts: Parts of a card that each counted one is, where it is no share by amounts: 2 for a half.
        annotations: Pod annotations that choose cards: role (`useUUID`, `avoidUUID`, `useType`, `avoidType`,
            `mode`) -> key.
    """

    count: str
    source: str
    models: tuple[str, ...] = ()
    whole: bool = False
    memory: str = ""
    memory_unit: int = MIB
    memory_percent: str = ""
    cores: str = ""
    cores_of: int = 100
    priority: str = ""
    memory_steps_mib: tuple[int, ...] = ()
    templates: tuple[LegacyTemplate, ...] = ()
    parts: int = 1
    annotations: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.memory_unit <= 0 or self.memory_unit % MIB or self.cores_of <= 0 or self.parts <= 0:
            raise InvalidInputError(
                f"The units of {self.count} are not whole MiB above 0, or not above 0 at all.",
                field="memory_unit",
            )
        if list(self.memory_steps_mib) != sorted(set(self.memory_steps_mib)):
            raise InvalidInputError(f"The steps of {self.memory} do not rise.", field="memory_steps_mib")
        if list(self.templates) != sorted(set(self.templates)):
            raise InvalidInputError(f"The templates of {self.count} do not rise.", field="templates")

    @property
    def names(self) -> tuple[str, ...]:
        """All resources of this entry."""
        found = (self.count, self.memory, self.memory_percent, self.cores, self.priority)
        return tuple(name for name in found if name)
