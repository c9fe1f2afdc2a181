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
        """Compute of the part in whole percent of the card, rounded down but never to 0.

        Rounded up, parts that fill a card together would not fit any more; 0 would be no cap.
        """
        return max(self.cores * 100 // self.cores_of, 1)


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
        memory_in_bytes: An amount of `memory` with a suffix (`4Gi`, `4G`) is bytes, not units.
        memory_percent: Resource that says it in percent of the card; "" if there is none.
        cores: Resource that says how much compute each gets; "" if there is none.
        cores_of: How many units of `cores` are a whole card.
        priority: Resource that gives the priority (0 is high); "" if there is none.
        memory_steps_mib: The only amounts there are: a request gets the next greater one; () for any amount.
        templates: The sizes in which the card can be cut; a request gets the smallest that holds it.
        memory_most_mib: The most that can be asked of one card; between the greatest template and this, the
            card is given whole. 0 where nothing is known.
        memory_whole_mib: What a card that is given whole has at least, where that is less than can be asked;
            0 for as much as is asked.
        parts: Parts of a card that each counted one is, where it is no share by amounts: 2 for a half.
        parts_fill: As many parts as a card has are the card, rather than parts of several cards.
        group: Cards are counted by so many: one alone becomes a group, other counts have to be whole groups.
        size_of_one: A count above 1 was a size of one card in the system of `source`, not several cards.
        several_whole: Where several are asked for, the system of `source` gave each whole.
        defaults: The administrator's defaults for amounts that are not asked for are for these names.
        type_prefix: What the system of `source` put in front of the model to make the type that annotations
            choose by.
        type_name: The one type of all these cards, where it is not made of the model.
        modes: The words that the annotation with the role `mode` may have: `hami-core` for a share by
            amounts, `mps` for one that MPS holds, `mig` for a partition.
        annotations: Pod annotations that choose cards: role (`useUUID`, `avoidUUID`, `useType`, `avoidType`,
            `mode`, `qos`, `numaBind`) -> key. Of UUIDs all keys of a role count.
    """

    count: str
    source: str
    models: tuple[str, ...] = ()
    whole: bool = False
    memory: str = ""
    memory_unit: int = MIB
    memory_in_bytes: bool = False
    memory_percent: str = ""
    cores: str = ""
    cores_of: int = 100
    priority: str = ""
    memory_steps_mib: tuple[int, ...] = ()
    templates: tuple[LegacyTemplate, ...] = ()
    memory_most_mib: int = 0
    memory_whole_mib: int = 0
    parts: int = 1
    parts_fill: bool = False
    group: int = 1
    size_of_one: bool = False
    several_whole: bool = False
    defaults: bool = False
    type_prefix: str = ""
    type_name: str = ""
    modes: tuple[str, ...] = ("hami-core",)
    annotations: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.memory_unit <= 0 or self.memory_unit % MIB or self.cores_of <= 0 or self.parts <= 0:
            raise InvalidInputError(
                f"The units of {self.count} are not whole MiB above 0, or not above 0 at all.",
                field="memory_unit",
            )
        if self.group <= 0:
            raise InvalidInputError(f"Groups of {self.count} are not above 0.", field="group")
        if list(self.memory_steps_mib) != sorted(set(self.memory_steps_mib)):
            raise InvalidInputError(f"The steps of {self.memory} do not rise.", field="memory_steps_mib")
        if list(self.templates) != sorted(set(self.templates)):
            raise InvalidInputError(f"The templates of {self.count} do not rise.", field="templates")

    def annotation(self, role: str) -> str:
        """Key of the annotation with this role, "" if there is none."""
        return next((key for known, key in self.annotations if known == role), "")

    @property
    def names(self) -> tuple[str, ...]:
        """All resources of this entry."""
        found = (self.count, self.memory, self.memory_percent, self.cores, self.priority)
        return tuple(name for name in found if name)
