"""Whether a process runs under the preload library with its share's limits, and if not, why.

Flow: `look` reads /proc/<pid>/maps -> is the library mapped, has the process come to a card, is the share's
region mapped -> `judge`, which is pure but for what it has to read to name a reason.

What counts as proof is the region, mapped by the process and with the share's limits in it: the library maps
it in the first CUDA or NVML call that it stands before. Until then a process is neither a proof nor a
failure, since most images start with a shell or an init program that never comes to a card.

What was found out about the usual suspects (tried with glibc 2.36):
* setuid programs: glibc drops LD_PRELOAD for them, not `/etc/ld.so.preload`; the library is loaded and finds
  its variables. They are held like all others.
* LD_PRELOAD set in the container: its libraries are loaded as well, and before ours. What they define goes
  first, so one that defines CUDA's functions or `dlsym` itself shadows ours. Others (malloc replacements) do
  not.
* CUDA_DISABLE_CONTROL: HAMi's device plugin reads it; the library does not, and neither do we. It is named
  where the library is there and does nothing, because a library built otherwise may read it.

Limits: a program that talks to the driver without libc is seen only by the device nodes that it has open. The
process' environment is the one it was started with; what it changed later shows in the region at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from driver.cards import CORES_PER_CARD
from driver.host import Host
from driver.isolation import elf
from driver.isolation.base import InForce, ShareContext
from driver.isolation.region import Region, RegionError, RegionNotReadyError, read_region, unreadable
from driver.quantities import MIB
from driver.shares import Share

MAX_MAPS_BYTES = 2 << 20
"""Of a process with more mappings (about 20,000) what is found among so many counts, and no more is said."""

MAX_ENVIRONMENT_BYTES = 1 << 20
MAX_FILES = 1024
"""Of so many open files the links are read."""

_DRIVER = re.compile(rb"/(?:libcuda|libnvidia-ml)\.so(?:\.|$)")
_LIBC = re.compile(rb"libc(?:\.so\.6|-2\.\d+\.so)")

NOT_VISIBLE = "ProcessesNotVisible"
NOT_USED_YET = "CardNotUsedYet"

HIDDEN = InForce(
    holds=False,
    known=False,
    reason=NOT_VISIBLE,
    message="The agent may not look at the container's processes.",
    remedy="An administrator sets the chart's value inForce.enabled.",
)
ENDED = InForce(holds=False, known=False, reason=NOT_USED_YET, message="The process has ended.")
UNUSED = InForce(holds=False, known=False, reason=NOT_USED_YET, message="No process has used its card yet.")
ABOUT_TO = InForce(
    holds=False, known=False, reason=NOT_USED_YET, message="A process is about to use its card."
)
TOO_LARGE = InForce(
    holds=False,
    known=False,
    reason="ProcessTooLarge",
    message=f"A process has more mappings or open files than are looked at ({MAX_MAPS_BYTES >> 20} MiB of "
    f"/proc/<pid>/maps, {MAX_FILES} files), and those that were do not tell whether its limits hold.",
    remedy="See why the program maps or opens so much.",
)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the method has its files.

    Attributes:
        library: The library as containers have it.
        library_source: The same as a path of the node.
        region: The share's region as containers have it.
        region_source: The same as a path of the node.
        others: Regions of the container's other shares, as paths of the node. All of them are mounted at the
            same place of the container, in no certain order: the last one is the one that its processes use.
    """

    library: str
    library_source: str
    region: str
    region_source: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a process' mappings and open files say.

    Attributes:
        library: The library is mapped.
        region: A region is mapped where the container has it.
        card: It has the driver's library mapped, or a device node of the share open.
        libc: Path of the C library that it has mapped, in its own root; "" for none.
        region_file: Which file the region is: device and inode.
        cut: There are more mappings or open files than were read: what is missing here may be there.
    """

    library: bool
    region: bool
    card: bool
    libc: str
    region_file: tuple[str, int] = ("", 0)
    cut: bool = False


def _mapped(maps: bytes, *, context: ShareContext, where: Where) -> Seen:
    """What the mappings say.

    Line by line, and by the names of files: a container chooses the paths, and one regular expression over
    all of them took quadratic time for paths of many slashes, 13 s for 410 KiB, in which nothing else of the
    agent ran.
    """
    library, region = where.library.encode(), where.region.encode()
    # One that was replaced on the node by another of its name is deleted, and goes on working.
    libraries = {library + end for end in (b"", b"//deleted", b" (deleted)")}
    devices = {device.encode() for device in context.devices}
    has_library, card, libc, region_file = False, False, b"", ("", 0)
    for line in maps.split(b"\n"):
        # Address, permissions, offset, device, inode, path: proc_pid_maps(5).
        fields = line.split(None, 5)
        if len(fields) < 6:
            continue
        path = fields[5]
        has_library = has_library or path in libraries
        card = card or path in devices or _DRIVER.search(path) is not None
        if path == region and not region_file[0]:
            region_file = (fields[3].decode("ascii", "replace"), int(fields[4]))
        if not libc and path.startswith(b"/") and _LIBC.fullmatch(path, path.rfind(b"/") + 1):
            libc = path
    return Seen(
        library=has_library,
        region=bool(region_file[0]),
        region_file=region_file,
        card=card,
        libc=libc.decode("utf-8", "replace"),
    )


def look(pid: int, *, context: ShareContext, where: Where, host: Host) -> Seen:
    """Reads what a process has mapped and open.

    Raises:
        OSError: The process is gone, or may not be looked at.
    """
    content = host.read_part(f"/proc/{pid}/maps", length=MAX_MAPS_BYTES)
    cut = len(content) >= MAX_MAPS_BYTES
    if cut:
        # Half a path could be a whole one.
        content = content.rpartition(b"\n")[0]
    seen = replace(_mapped(content, context=context, where=where), cut=cut)
    if seen.card or seen.region or not context.devices:
        return seen
    names = host.list_dir(f"/proc/{pid}/fd")
    card = _has_open(pid, names[:MAX_FILES], context.devices, host=host)
    return replace(seen, card=card, cut=cut or (not card and len(names) > MAX_FILES))


def judge(pid: int, share: Share, *, context: ShareContext, where: Where, host: Host) -> InForce:
    """The verb *in_force?* of the preload library, for one process."""
    try:
        seen = look(pid, context=context, where=where, host=host)
    except PermissionError:
        return HIDDEN
    except OSError:
        return ENDED
    if seen.region:
        return _of_region(pid, share, context=context, where=where, host=host, seen=seen)
    if seen.cut:
        return TOO_LARGE
    if not seen.card:
        return UNUSED
    if seen.library:
        return _without_region(pid, where=where, host=host)
    return _without_library(pid, seen, where=where, host=host)


def differing(region: Region, share: Share, *, context: ShareContext) -> str:
    """How the limits of a region differ from those of a share that it has to hold; "" if they do not."""
    told = []
    index = context.index
    if context.holds_memory and share.limits_memory and region.memory[index] != share.memory_mib * MIB:
        has = f"{region.memory[index] // MIB} MiB" if region.memory[index] else "no limit"
        told.append(f"{has} instead of {share.memory_mib} MiB of memory")
    if context.holds_cores and share.limits_cores and region.cores[index] != share.cores_percent:
        capped = 0 < region.cores[index] < CORES_PER_CARD
        has = f"{region.cores[index]} percent" if capped else "no cap"
        told.append(f"{has} instead of {share.cores_percent} percent of compute")
    return " and ".join(told)


def region_in_use(seen: Seen, *, where: Where, host: Host) -> str:
    """The node's path of the region that a process has mapped; "" if no share of its container has it."""
    if not where.others:
        return where.region_source
    for path in (where.region_source, *where.others):
        try:
            if host.inode(path) == seen.region_file:
                return path
        except OSError:
            continue
    return ""


def _of_region(
    pid: int, share: Share, *, context: ShareContext, where: Where, host: Host, seen: Seen
) -> InForce:
    path = region_in_use(seen, where=where, host=host)
    if not path:
        return region_unreadable("it is none of those that the container was given")
    try:
        region = read_region(path, host=host, slots=False)
    except (FileNotFoundError, RegionNotReadyError):
        return ABOUT_TO
    except OSError as failed:
        return region_unreadable(unreadable(failed))
    except RegionError as odd:
        return region_unreadable(str(odd))
    differs = differing(region, share, context=context)
    if differs:
        return InForce(
            holds=False,
            reason="RegionLimitsDiffer",
            message=f"The library holds {differs}.",
            remedy="Delete the pod; its successor gets a region of its own. Something in the container has "
            "changed the library's environment (or /overrideEnv) or its region.",
        )
    if context.holds_cores and share.limits_cores:
        policy = _environment(pid, host=host).get("GPU_CORE_UTILIZATION_POLICY", context.core_policy)
        if policy.lower() == "disable":
            return InForce(
                holds=False,
                reason="ThrottlingDisabled",
                message="A process was started with GPU_CORE_UTILIZATION_POLICY=disable.",
                remedy="Take the variable out of what starts the process.",
            )
    return InForce(holds=True, message="The preload library holds the share's limits.")


def region_unreadable(why: str) -> InForce:
    """The answer where a region is there and does not tell its limits."""
    return InForce(
        holds=False,
        reason="RegionUnreadable",
        message=f"The library's region cannot be read: {why}.",
        remedy="Delete the pod. If its successor has the same: the library's version is not one that "
        "Dragoman knows, or the container damages the file.",
    )


def _without_region(pid: int, *, where: Where, host: Host) -> InForce:
    environment = _environment(pid, host=host)
    if environment.get("CUDA_DEVICE_MEMORY_SHARED_CACHE", where.region) != where.region or (
        environment and "CUDA_DEVICE_MEMORY_SHARED_CACHE" not in environment
    ):
        return InForce(
            holds=False,
            reason="EnvironmentLost",
            message="A process uses its card and was started without the library's variables, so it counts "
            "by itself and without limits.",
            remedy="Pass the container's environment on to it (a login shell, sudo and ssh do not).",
        )
    if environment.get("CUDA_DISABLE_CONTROL", "").lower() in ("true", "1"):
        return InForce(
            holds=False,
            reason="DisabledByUser",
            message="A process uses its card, CUDA_DISABLE_CONTROL is set, and the library does nothing.",
            remedy="Take CUDA_DISABLE_CONTROL out of the container's environment.",
        )
    if environment.get("LD_PRELOAD"):
        return InForce(
            holds=False,
            reason="ShadowedByLdPreload",
            message="A process uses its card and the library does nothing: what LD_PRELOAD names is first.",
            remedy="Take out of LD_PRELOAD what defines CUDA's functions or dlsym.",
        )
    return InForce(
        holds=False,
        reason="RegionMissing",
        message="A process uses its card, and the library that it has loaded has opened no region.",
        remedy="Check that the chart's value preload.library names HAMi-core's libvgpu.so. A program that "
        "does not come to the card through CUDA or NVML cannot be held by it.",
    )


def _without_library(pid: int, seen: Seen, *, where: Where, host: Host) -> InForce:
    try:
        program = elf.read_program(f"/proc/{pid}/exe", host=host)
        library = elf.read_program(where.library_source, host=host)
    except OSError:
        program = library = None
    if program is not None and library is not None and program.machine != library.machine:
        names = [elf.MACHINES.get(one.machine, str(one.machine)) for one in (program, library)]
        return _not_loaded(
            "OtherArchitecture",
            f"A program for {names[0]} uses the card; the library is for {names[1]}.",
            "Use programs of the node's own architecture.",
        )
    if program is not None and not program.interpreter:
        return _not_loaded(
            "StaticBinary",
            "A program that is linked statically uses the card; no library can be loaded into it.",
            "Link it dynamically to glibc, or ask for cards whose memoryIsolation is kernel or hardware.",
        )
    if program is not None and "musl" in program.interpreter:
        return _not_loaded(
            "MuslLibc",
            "A program for musl uses the card; musl reads no /etc/ld.so.preload.",
            "Use an image with glibc (Debian, Ubuntu, UBI) instead of Alpine.",
        )
    too_old = _too_old(pid, seen, where=where, host=host)
    if too_old:
        return _not_loaded(
            "GlibcTooOld", too_old, "Use a newer base image, or build the library against an older glibc."
        )
    return _not_loaded(
        "LibraryNotLoaded",
        "A program uses the card and has not loaded the library.",
        "Check that the node's copy of the library is whole, and that nothing in the image replaces "
        "/etc/ld.so.preload or starts programs in a root of their own.",
    )


def _not_loaded(reason: str, message: str, remedy: str) -> InForce:
    return InForce(holds=False, reason=reason, message=message, remedy=remedy)


def _too_old(pid: int, seen: Seen, *, where: Where, host: Host) -> str:
    if not seen.libc:
        return ""
    try:
        needed = elf.newest_glibc(where.library_source, host=host)
    except OSError:
        return ""
    has = elf.glibc_of(seen.libc, root=f"/proc/{pid}/root", host=host)
    if needed is None or has is None or has >= needed:
        return ""
    return f"A program with glibc 2.{has} uses the card; the library needs 2.{needed}."


def _has_open(pid: int, names: Sequence[str], devices: tuple[str, ...], *, host: Host) -> bool:
    for name in names:
        try:
            if host.read_link(f"/proc/{pid}/fd/{name}") in devices:
                return True
        except OSError:
            continue
    return False


def _environment(pid: int, *, host: Host) -> Mapping[str, str]:
    """The variables that a process was started with; none if that cannot be read."""
    try:
        content = host.read_part(f"/proc/{pid}/environ", length=MAX_ENVIRONMENT_BYTES)
    except OSError:
        return {}
    entries = (entry.partition("=") for entry in content.decode("utf-8", "replace").split("\0"))
    return {name: value for name, equals, value in entries if equals}
