"""vNPUs of Ascend NPUs as partitions: parts of a chip's AI cores and memory by Huawei's templates.

Flow: *cards* lists what a chip could be cut into, by its model's templates, and what it is cut into, by
`npu-smi`; *find*, *make* and *remove* one by `npu-smi`; *edits* give its node `/dev/vdavinciN`.

Names: a vNPU has no place on the chip, only a number, which its maker may choose. So a place is a matter of
numbers here: of the numbers that Huawei gives a chip (100 + 16 times its physical number, and up), ours takes
the one of its first slot, a slot being the AI cores of the smallest template. Templates are multiples of each
other, so whatever fits in AI cores fits in slots. vNPUs that others made are understood if their numbers
follow the same rule; otherwise the chip is not offered. Where npu-smi counts others than can be read from
what it lists, nothing is offered of the chip either, and nothing of it is made or removed.

Source: Huawei's npu-smi reference (`create-vnpu` with `-v`, `destroy-vnpu`, `info-vnpu`); its Docker guide
(`/dev/vdavinci100:/dev/davinci100`); template sizes from HAMi's configuration.

Limits: tried with a stand-in for npu-smi that was written by its documentation, never on a chip. The mode for
containers (`npu-smi set -t vnpu-mode -d 0`) is the administrator's to set. vNPUs may outlive a boot, so one
of our number and template is ours as long as its note is there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from driver.cards import CORES_PER_CARD, Card, Partition
from driver.cdi import ContainerEdits, DeviceNode
from driver.errors import DeviceGoneError
from driver.host import Host
from driver.partitions.base import (
    IN_PARTITION_MODE,
    Instance,
    PartitionBusyError,
    PartitionNoRoomError,
    PartitionRefusedError,
    PartitionTarget,
)
from driver.places import Place
from driver.quantities import MIB
from driver.vendors.dcmi import DcmiChip
from driver.vendors.legacy import LegacyNames, LegacyTemplate
from driver.vendors.pci_vendor import DeviceNodesMissingError
from driver.vendors.reading import Program, UnreadableError, report_lines, shown

KIND = "vnpu"

_NPU_SMI = Program(
    names=("npu-smi", "/usr/local/bin/npu-smi", "/usr/local/sbin/npu-smi"),
    library_dirs=("/usr/local/Ascend/driver/lib64", "/usr/local/Ascend/driver/lib64/driver"),
    timeout_s=30.0,
)
_FIRST = 100
_OF_EACH_CHIP = 16
_AI_CPUS = {"Ascend310P": 7}
"""AI CPUs where they are fewer than templates would need together; a template has one for each AI core."""
_ROW = re.compile(r"\|\s*(\d{1,6})\s*\|[^|]*\|[^|]*\|[^|]*\|\s*([A-Za-z0-9_]{1,64})\s*\|")
_TOTAL = re.compile(r"Total number of vnpu\s*:\s*(\d{1,6})")
_STRANGE = "It is cut into vNPUs whose numbers do not tell where they are."
_ANEW = "Delete the pod; a new one is scheduled to a card that is there."


class VnpusNotUnderstoodError(UnreadableError):
    """What npu-smi lists of a chip's vNPUs is not what it counts: some are there that nobody can place."""

    reason = "VnpusNotUnderstood"


@dataclass(frozen=True, kw_only=True)
class _Vnpu:
    number: int
    template: str


class AscendVnpus:
    """vNPUs of the node's NPUs; implements `driver.partitions.Partitioner`.

    Args:
        chip: Gives the chip of a UUID as it is now, None if there is none; raises UnreadableError.
        models: What is known of each model, templates among it.
    """

    instances_outlive_boot = True
    numbers_used_again = False

    def __init__(
        self, chip: Callable[[str, Host], DcmiChip | None], *, models: Sequence[LegacyNames]
    ) -> None:
        self._chip = chip
        self._models = models

    def cards(self, card: Card, *, host: Host) -> tuple[Card, ...]:
        """The chip, and a device for each vNPU that it has or could have.

        Raises:
            VnpusNotUnderstoodError: It is cut, and nobody can say into what.
            UnreadableError: npu-smi or DCMI does not tell.
        """
        grid = self._grid(card.model)
        if grid is None or card.unpublished:
            return (card,)
        found = {part.name: part for part in grid.parts(card)}
        there = self._there(self._of(card.uuid, card.name, host), host=host)
        places = grid.places(card.name, there, first=self._first(card, host))
        if places is None:
            return (replace(card, unpublished=_STRANGE),)
        for place in places:
            found[place.name] = grid.part(card, place, exists=True)
        unpublished = IN_PARTITION_MODE if places else ""
        whole = replace(card, counters=grid.totals, unpublished=unpublished)
        return whole, *found.values()

    def find_instance(self, target: PartitionTarget, *, host: Host) -> Instance | None:
        """See `Partitioner`."""
        chip = self._now(target, host)
        number, template = self._wanted(target, chip)
        for one in self._listed(chip, host=host):
            if one.number == number and one.template == template:
                return Instance(target=target, uuid=f"vnpu-{number}", number=number, complete=True)
        return None

    def make_instance(self, target: PartitionTarget, *, host: Host) -> Instance:
        """See `Partitioner`."""
        found = self.find_instance(target, host=host)
        if found is None:
            chip = self._now(target, host)
            number, template = self._wanted(target, chip)
            try:
                self._set("create-vnpu", chip, "-f", template, "-v", str(number), host=host)
            except PartitionBusyError as refused:
                if not self._is_taken(chip, target.place, host=host):
                    raise
                raise PartitionNoRoomError(
                    f"Chip {target.place.card} has no room for {target.place.name}: {refused.message} vNPUs "
                    "that were not made for claims have taken it.",
                    remedy="An administrator removes them (npu-smi info -t info-vnpu shows them), and the "
                    "kubelet tries again; or delete the pod, and its replacement is scheduled where there is "
                    "room.",
                ) from None
            found = self.find_instance(target, host=host)
        if found is None:
            raise PartitionRefusedError(
                f"npu-smi made {target.place.name} and does not list it.",
                remedy="Look with npu-smi info -t info-vnpu what is there.",
            )
        return found

    def remove_instance(self, instance: Instance, *, host: Host) -> None:
        """See `Partitioner`."""
        if self.find_instance(instance.target, host=host) is not None:
            chip = self._now(instance.target, host)
            self._set("destroy-vnpu", chip, "-v", str(instance.number), host=host)

    def instance_edits(self, instance: Instance, *, host: Host) -> ContainerEdits:
        """The vNPU's node, under the name that CANN looks for."""
        path = f"/dev/vdavinci{instance.number}"
        if not host.exists(path):
            raise DeviceNodesMissingError(
                f"The node has no {path}.", remedy="The kubelet tries again until the driver has made it."
            )
        return ContainerEdits(
            device_nodes=(
                DeviceNode(path=f"/dev/davinci{instance.number}", host_path=path, permissions="rw"),
            )
        )

    def make_whole(self, card_uuid: str, *, host: Host) -> None:
        """See `Partitioner`: without vNPUs a chip is whole."""
        try:
            there = self._there(self._of(card_uuid, card_uuid, host), host=host)
        except UnreadableError as unreadable:
            raise _not_now(card_uuid, unreadable) from None
        if there:
            raise PartitionBusyError(
                f"Chip {card_uuid} has {len(there)} vNPUs, so it cannot be used as a whole.",
                remedy="The kubelet tries again. An administrator removes vNPUs that no claim holds.",
            )

    def _wanted(self, target: PartitionTarget, chip: DcmiChip) -> tuple[int, str]:
        grid = self._grid(chip.name)
        place = target.place
        template = grid.template(place) if grid is not None else None
        if template is None:
            raise DeviceGoneError(
                f"Chip {place.card} has no place for {place.name} (any more).", remedy=_ANEW
            )
        return _first_of(chip) + place.start, template.name

    def _is_taken(self, chip: DcmiChip, place: Place, *, host: Host) -> bool:
        """Whether vNPUs are there that exclude it; False also where nobody can say."""
        grid = self._grid(chip.name)
        there = self._listed(chip, host=host)
        places = grid.places(place.card, there, first=_first_of(chip)) if grid is not None else None
        return any(place.overlaps(other) for other in places or ())

    def _first(self, card: Card, host: Host) -> int:
        return _first_of(self._of(card.uuid, card.name, host))

    def _grid(self, model: str) -> Grid | None:
        bare = model.lower().replace("ascend", "").strip()
        for known in self._models:
            names = {name.lower().replace("ascend", "").strip() for name in known.models}
            if known.templates and known.group == 1 and bare in names:
                return Grid.of(known.templates, ai_cpus=_AI_CPUS.get(known.type_name, 0))
        return None

    def _of(self, uuid: str, name: str, host: Host) -> DcmiChip:
        chip = self._chip(uuid, host)
        if chip is None:
            raise DeviceGoneError(f"Chip {name} is not on this node (any more).", remedy=_ANEW)
        return chip

    def _now(self, target: PartitionTarget, host: Host) -> DcmiChip:
        try:
            return self._of(target.card_uuid, target.place.card, host)
        except UnreadableError as unreadable:
            raise _not_now(target.place.card, unreadable) from None

    def _listed(self, chip: DcmiChip, *, host: Host) -> list[_Vnpu]:
        try:
            return self._there(chip, host=host)
        except UnreadableError as unreadable:
            raise _not_now(chip.die_id, unreadable) from None

    def _there(self, chip: DcmiChip, *, host: Host) -> list[_Vnpu]:
        try:
            return _listed_in(_NPU_SMI.ask("info", "-t", "info-vnpu", *_which(chip), host=host))
        except VnpusNotUnderstoodError:
            # It counts before it lists: one may have come or gone in between.
            return _listed_in(_NPU_SMI.ask("info", "-t", "info-vnpu", *_which(chip), host=host))

    def _set(self, what: str, chip: DcmiChip, *arguments: str, host: Host) -> None:
        try:
            _NPU_SMI.ask("set", "-t", what, *_which(chip), *arguments, host=host)
        except UnreadableError as refused:
            # npu-smi has one exit status for all that goes wrong; what is in use is so for a while.
            raise PartitionBusyError(
                f"npu-smi refuses {what} on chip {chip.die_id}: {refused}",
                remedy="The kubelet tries again. Look whether the vNPU mode is that for containers "
                "(npu-smi info -t vnpu-mode).",
            ) from None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a model can be cut: its slots, and the slots of each template."""

    slots: int
    cores_of: int
    sizes: tuple[tuple[LegacyTemplate, int], ...]
    ai_cpus: int = 0

    @classmethod
    def of(cls, templates: Sequence[LegacyTemplate], *, ai_cpus: int) -> Grid:
        """The grid of a model's templates."""
        unit = math.gcd(*(template.cores for template in templates))
        cores_of = templates[0].cores_of
        sizes = tuple((template, template.cores // unit) for template in templates)
        return cls(slots=cores_of // unit, cores_of=cores_of, sizes=sizes, ai_cpus=ai_cpus)

    @property
    def totals(self) -> dict[str, int]:
        """What the chip has to be shared among vNPUs."""
        found = {f"slot-{number}": 1 for number in range(self.slots)}
        return {**found, "ai-cpus": self.ai_cpus} if self.ai_cpus else found

    def parts(self, card: Card) -> list[Card]:
        """A device for each vNPU that there could be."""
        return [
            self.part(card, _place(card.name, profile, start=start, size=size))
            for profile, (_, size) in enumerate(self.sizes)
            for start in range(0, self.slots - size + 1, size)
        ]

    def part(self, card: Card, place: Place, *, exists: bool = False) -> Card:
        """The device of a place."""
        template, _ = self.sizes[place.profile]
        taken = {f"slot-{number}": 1 for number in place.slots}
        return Card(
            name=place.name,
            vendor=card.vendor,
            model=card.model,
            memory_bytes=min(template.memory_mib * MIB, card.memory_bytes),
            architecture=card.architecture,
            driver_version=card.driver_version,
            pci_bus_id=card.pci_bus_id,
            pcie_root=card.pcie_root,
            numa_node=card.numa_node,
            cores=max(1, template.cores * CORES_PER_CARD // self.cores_of),
            shareable=False,
            partition=Partition(card_uuid=card.uuid, profile=template.name, exists=exists),
            counters={**taken, "ai-cpus": template.cores} if self.ai_cpus else taken,
        )

    def template(self, place: Place) -> LegacyTemplate | None:
        """The template of a place; None if there is no such place."""
        if place.profile >= len(self.sizes):
            return None
        template, size = self.sizes[place.profile]
        fits = place.size == size and not place.start % size and place.start + size <= self.slots
        return template if fits else None

    def places(self, card: str, there: Sequence[_Vnpu], *, first: int) -> tuple[Place, ...] | None:
        """Where vNPUs are, by their numbers; None if these do not tell."""
        known: Mapping[str, int] = {template.name: n for n, (template, _) in enumerate(self.sizes)}
        found: list[Place] = []
        for one in there:
            profile, start = known.get(one.template), one.number - first
            if profile is None or start < 0:
                return None
            place = _place(card, profile, start=start, size=self.sizes[profile][1])
            if self.template(place) is None or any(place.overlaps(other) for other in found):
                return None
            found.append(place)
        return tuple(found)


def _listed_in(told: str) -> list[_Vnpu]:
    """The vNPUs of a table: as many as it says that there are.

    Raises:
        VnpusNotUnderstoodError: It says that there are others.
        UnreadableError: It is no such table; npu-smi also ends well when it says that it cannot tell.
    """
    lines = list(report_lines(told))
    totals = [int(match[1]) for line in lines if (match := _TOTAL.search(line))]
    found = [_Vnpu(number=int(match[1]), template=match[2]) for line in lines if (match := _ROW.search(line))]
    if not totals and not found:
        raise UnreadableError(f"npu-smi told nothing of vNPUs: {shown(told) or 'it said nothing'}.")
    if totals != [len(found)] or len({one.number for one in found}) != len(found):
        counted = " and ".join(map(str, totals)) or "no number of"
        raise VnpusNotUnderstoodError(
            f"npu-smi counts {counted} vNPUs, and {len(found)} of what it lists are understood.",
            remedy="Compare npu-smi info -t info-vnpu with what Dragoman knows of it, and report it.",
        )
    return found


def _place(card: str, profile: int, *, start: int, size: int) -> Place:
    return Place(card=card, kind=KIND, profile=profile, start=start, size=size)


def _which(chip: DcmiChip) -> tuple[str, ...]:
    return "-i", str(chip.card), "-c", str(chip.device)


def _first_of(chip: DcmiChip) -> int:
    return _FIRST + _OF_EACH_CHIP * chip.physical_id


def _not_now(card: str, because: UnreadableError) -> PartitionBusyError:
    return PartitionBusyError(
        f"What card {card} is cut into cannot be asked now: {because}", remedy="The kubelet tries again."
    )
