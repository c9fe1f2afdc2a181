"""Preload libraries that hold the limits of one card in a container: what HAMi-core's kin have in common.

Purpose: other vendors' libraries take their amounts from variables without an index, or with one that nobody
has proven to be the card's. They hold a share all the same, as long as the container has no other card of
that vendor and no share that another library holds.

Flow: `OneCardPreload` is `Preload` with another library and other variables; the region's folder, its marker
and its removal are the same. `check_one_card_rules` refuses the containers in which that would not do.

*In force?* wants to see that the process has mapped library and region and was started with the share's
limits, and that the region, by which the library counts, has them too. Where a limit stands in no region, or
in one whose layout is not known for certain, it says that nobody can see it.

Limits: those of `driver.isolation.preload`. That the library refuses what goes beyond the limit in its region
is believed.
"""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from driver.cards import Card
from driver.cdi import ContainerEdits, Mount
from driver.errors import IsolationError
from driver.host import Host
from driver.isolation.base import Availability, InForce, ShareContext
from driver.isolation.preload import (
    CONTAINER_DIR,
    CONTAINER_REGION_DIR,
    Preload,
    PreloadLibraryMissingError,
    PreloadSettings,
    needed,
)
from driver.isolation.preload_seen import (
    ABOUT_TO,
    ENDED,
    HIDDEN,
    MAX_ENVIRONMENT_BYTES,
    TOO_LARGE,
    UNUSED,
    Where,
    look,
    region_unreadable,
)
from driver.isolation.region import RegionError, RegionNotReadyError, unreadable
from driver.isolation.rules import ContainerUse, ShareFacts, ShareKey, named
from driver.quantities import MIB
from driver.shares import Share

VENDORS = frozenset({"ascend", "amd"})
"""Vendors whose library holds one card in a container."""

REGION_HEAD = 64
"""So many bytes of a region are read."""

_RW = ("rw", "nosuid", "nodev", "bind")


class OneCardOnlyError(IsolationError):
    """A container has more than one card of a vendor whose library holds one."""

    reason = "OneCardOnly"


class MixedLibrariesError(IsolationError):
    """A container has shares that libraries of different vendors hold."""

    reason = "MixedLibraries"


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a library holds by the word of its region.

    Attributes:
        memory_bytes: Memory of the container's first card; 0 for no limit.
        certain: The region says which layout it has, so that another number than was asked for is one.
    """

    memory_bytes: int
    certain: bool


class OneCardPreload(Preload):
    """A preload library that holds one card in a container; implements `driver.isolation.base`.

    Args:
        settings: As of `Preload`; `library` is a file of the node that an administrator keeps there.
        title: The library's name, for sentences.
        setting: The chart's value that names the library.
    """

    container_library: str
    region_file: str

    def __init__(self, settings: PreloadSettings, *, title: str, setting: str) -> None:
        super().__init__(settings)
        self._title = title
        self._setting = setting

    @abstractmethod
    def variables(self, share: Share, *, context: ShareContext) -> dict[str, str]:
        """The share's limits as the library reads them."""

    @abstractmethod
    def loading(self, context: ShareContext, *, host: Host) -> ContainerEdits:
        """What makes the container's programs load the library; the same in all shares of a card."""

    @abstractmethod
    def held_in(self, head: bytes) -> Held:
        """What the library counts by, from the first bytes of its region.

        Raises:
            RegionNotReadyError: The library has not written it yet.
            RegionError: The region's layout is none that is known.
        """

    def can_hold(self, card: Card) -> Availability:  # noqa: ARG002 - for those that override
        """What the library holds of this card, once it is there."""
        return Availability(memory=True, cores=True)

    def available(self, *, card: Card, host: Host) -> Availability:
        """Whether the library is there, and is made for this card."""
        library = self._settings.library
        if not library or not host.exists(library):
            return Availability(
                memory=False,
                cores=False,
                reason=f"{self._title} is missing on this node ({library or 'no path is configured'}).",
                refusal=PreloadLibraryMissingError,
                remedy=f"An administrator puts it on the node and sets the chart's value {self._setting}.",
            )
        return self.can_hold(card)

    def edits(self, share: Share, *, context: ShareContext, host: Host) -> ContainerEdits:
        """Environment and mounts.

        Raises:
            PreloadLibraryMissingError: The library is gone since `available` said that it was there.
            IsolationError: The card is not the container's first, or a limit would be none.
        """
        if not needed(share, context=context):
            return ContainerEdits()
        found = self.available(card=context.card, host=host)
        if not found.memory:
            raise found.refusal(found.reason, remedy=found.remedy)
        if context.index != 0:
            raise OneCardOnlyError(
                f"Card {context.card.name} would be number {context.index} in the container; {self._title} "
                "holds the first one only.",
                remedy="Give each container one card of that vendor.",
            )
        limits = self._checked(share, context=context)
        region = self._make_region(share, limits=limits, host=host)
        return ContainerEdits(
            env=limits,
            mounts=(
                Mount(host_path=self._settings.library, container_path=self.container_library),
                Mount(host_path=region, container_path=CONTAINER_REGION_DIR, options=_RW),
            ),
        ) + self.loading(context, host=host)

    def in_force(self, share: Share, *, context: ShareContext, host: Host, pid: int) -> InForce:
        """Whether the process has mapped library and region, and the region has the share's limits."""
        if not needed(share, context=context):
            return InForce(holds=True, message="The share has no limit that this method holds.")
        where = Where(
            library=self.container_library,
            library_source=self._settings.library,
            region=f"{CONTAINER_REGION_DIR}/{self.region_file}",
            region_source=self.region_of(share),
        )
        try:
            seen = look(pid, context=context, where=where, host=host)
            environment = host.read_part(f"/proc/{pid}/environ", length=MAX_ENVIRONMENT_BYTES)
        except PermissionError:
            return HIDDEN
        except OSError:
            return ENDED
        if seen.cut and not (seen.library and seen.region):
            return TOO_LARGE
        if not seen.card and not seen.region:
            return UNUSED
        if not seen.library:
            return InForce(
                holds=False,
                reason="LibraryNotLoaded",
                message=f"A process uses its card and has not loaded {self.container_library}.",
                remedy="The program has to be linked to glibc, and started with the container's environment.",
            )
        started_with = environment.decode("utf-8", "replace").split("\0")
        if not {f"{name}={value}" for name, value in self._checked(share, context=context).items()} <= set(
            started_with
        ):
            return InForce(
                holds=False,
                reason="EnvironmentLost",
                message="A process was started without the share's limits.",
                remedy="Start programs with the container's environment.",
            )
        if not seen.region:
            return InForce(
                holds=False,
                reason="RegionMissing",
                message=f"A process uses its card and {self._title} has not opened its region.",
                remedy="See what the library wrote to the container's log.",
            )
        return self._of_region(share, context=context, host=host)

    def _of_region(self, share: Share, *, context: ShareContext, host: Host) -> InForce:
        """The answer where a process has mapped the region and was started with the share's limits."""
        try:
            held = self.held_in(host.read_part(self.region_of(share), length=REGION_HEAD))
        except (FileNotFoundError, RegionNotReadyError):
            return ABOUT_TO
        except RegionError as odd:
            return self._not_seen(f"what it counts by cannot be read: {odd}")
        except OSError as failed:
            return region_unreadable(unreadable(failed))
        if context.holds_memory and share.limits_memory and held.memory_bytes != share.memory_mib * MIB:
            has = f"{held.memory_bytes // MIB} MiB" if held.memory_bytes else "no limit"
            differs = f"{has} instead of {share.memory_mib} MiB of memory"
            if not held.certain:
                return self._not_seen(
                    f"where releases that are known have the limit its region has {differs}"
                )
            return InForce(
                holds=False,
                reason="RegionLimitsDiffer",
                message=f"The library holds {differs}.",
                remedy="Delete the pod; its successor gets a region of its own. Something in the container "
                "has changed the library's environment or its region.",
            )
        if context.holds_cores and share.limits_cores:
            return self._not_seen(f"that it keeps to {share.cores_percent} percent of compute stands nowhere")
        return InForce(holds=True, message=f"{self._title} holds the share's limits.")

    def _not_seen(self, what: str) -> InForce:
        return InForce(
            holds=False,
            known=False,
            reason="LimitsNotSeen",
            message=f"A process has loaded {self._title} and was started with the share's limits; {what}.",
        )

    def region_of(self, share: Share) -> str:
        """Path of the node where the share's region is once a process has made it."""
        return f"{self._folders(share)[1]}/region/{self.region_file}"

    def _checked(self, share: Share, *, context: ShareContext) -> dict[str, str]:
        if context.holds_memory and share.limits_memory and share.memory_mib < 1:
            raise IsolationError("A memory limit of 0 would be no limit.", remedy="Ask for at least 1Mi.")
        return self.variables(share, context=context)

    def _list_mount(self, name: str, *, host: Host) -> Mount:
        """The list that names the library to glibc's loader."""
        path = posixpath.join(self._settings.files_dir, name)
        content = self.container_library + "\n"
        if not host.exists(path) or host.read_text(path) != content:
            host.make_dir(self._settings.files_dir, mode=0o755)
            host.replace_text(path, content)
        return Mount(host_path=path, container_path="/etc/ld.so.preload")


def check_one_card_rules(
    *,
    claim_shares: Collection[ShareKey],
    all_shares: Mapping[ShareKey, ShareFacts],
    containers: Sequence[ContainerUse],
) -> None:
    """Checks the containers that use a claim's shares, after `driver.isolation.rules` did.

    Args:
        claim_shares: The claim's shares on this node.
        all_shares: Facts of these and of every other share that `containers` use.
        containers: All containers of all pods that may use the claim.

    Raises:
        OneCardOnlyError: A container has several cards of a vendor whose library holds one.
        MixedLibrariesError: A container has limited shares of several vendors' libraries.
    """
    ours = set(claim_shares)
    for use in containers:
        limited = sorted(key for key in use.uses if all_shares[key].limited)
        if not ours.intersection(use.uses) or not limited:
            continue
        vendors = sorted({all_shares[key].vendor for key in limited})
        if len(vendors) > 1:
            raise MixedLibrariesError(
                f"{named(use)} would get limited shares of cards of {' and '.join(vendors)}; one preload "
                "library holds the limits of a container.",
                field="spec.containers[].resources.claims",
                remedy="Give each vendor's share a container of its own, or ask for whole cards.",
            )
        (vendor,) = vendors
        same = sorted({all_shares[key].card_sort_key for key in use.uses if all_shares[key].vendor == vendor})
        if vendor in VENDORS and (len(same) > 1 or len(limited) > 1):
            raise OneCardOnlyError(
                f"{named(use)} would get a limited share and more of cards of {vendor}; the preload library "
                "of that vendor holds one card in a container.",
                field="spec.containers[].resources.claims",
                remedy="Give the limited share a container of its own, or ask for whole cards.",
            )


def shared_folder(settings: PreloadSettings, card: Card) -> str:
    """Folder of the node for what all containers on a card share; no claim's UID can have its name."""
    return posixpath.join(settings.region_dir, SHARED, card.name)


def make_shared_folder(folder: str, *, host: Host) -> None:
    """Makes it if it is not there."""
    # Containers of any user make and open files in it; the parents keep everybody else on the host out.
    host.make_dir(folder.rpartition("/")[0], mode=0o700)
    host.make_dir(folder, mode=0o777)


SHARED = ".cards"
CONTAINER_SHARED_DIR = f"{CONTAINER_DIR}/card"
