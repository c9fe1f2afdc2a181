"""MIG by NVML: which instances a card can have, which it has, and how one is made and removed.

Flow: each function gets pynvml and a card's handle from a session of `driver.vendors.nvml`, asks, and answers
in types of its own; NVML's errors pass through to the session, which knows what they mean.

Source of the rules: NVML's API reference. Profiles and their placements are told whether or not the card is
in MIG mode. A GPU instance is of use only once a compute instance is in it; ours has one that spans it all.
Switching the mode needs a card that nobody uses, and on cards before Hopper a reset, which the driver does
itself where nothing else holds the card.

Limits: instances that somebody divided into several compute instances are told and not used: what runs in
them shares the instance's memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

_ENGINES = {
    "multiprocessors": "multiprocessorCount",
    "copy-engines": "copyEngineCount",
    "decoders": "decoderCount",
    "encoders": "encoderCount",
    "jpeg-engines": "jpegCount",
    "ofa-engines": "ofaCount",
}
_COMPUTE = "compute-slices"


@dataclass(frozen=True, kw_only=True)
class MigProfile:
    """One size of GPU instances that a card can have.

    Attributes:
        id: NVML's number of it on this card.
        name: `1g.10gb`, as `nvidia-smi` prints it.
        memory_mib: Memory of an instance.
        most: How many instances of it fit at most.
        placements: Where it can stand: first memory slice and number of memory slices.
        counters: What an instance takes of what the card has only so many of.
    """

    id: int
    name: str
    memory_mib: int
    most: int
    placements: tuple[tuple[int, int], ...]
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def slices(self) -> int:
        """Compute slices of an instance."""
        return self.counters[_COMPUTE]


@dataclass(frozen=True, kw_only=True)
class MigInstance:
    """A GPU instance that is there.

    Attributes:
        id: NVML's number of it.
        profile: NVML's number of its profile.
        start: Its first memory slice.
        size: How many memory slices it takes.
        compute: Numbers of the compute instances in it.
        spanned: Whether one compute instance spans it all.
        uuid: UUID of the MIG device; "" where there is not exactly one.
    """

    id: int
    profile: int
    start: int
    size: int
    compute: tuple[int, ...]
    spanned: bool
    uuid: str


def mig_mode(nvml: Any, handle: Any) -> bool | None:
    """Whether the card is in MIG mode now; None where it has no MIG."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported):
        # Drivers from before MIG, and cards without it.
        return None
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def pending_mode(nvml: Any, handle: Any) -> bool:
    """Whether the card will be in MIG mode after its next reset; for cards that have MIG."""
    _, pending = nvml.nvmlDeviceGetMigMode(handle)
    return bool(pending == nvml.NVML_DEVICE_MIG_ENABLE)


def set_mig_mode(nvml: Any, handle: Any, *, enable: bool) -> int:
    """Switches the mode; 0, or NVML's error why the mode is not in force."""
    wanted = nvml.NVML_DEVICE_MIG_ENABLE if enable else nvml.NVML_DEVICE_MIG_DISABLE
    before = nvml.NVML_DEVICE_MIG_DISABLE if enable else nvml.NVML_DEVICE_MIG_ENABLE
    status = int(nvml.nvmlDeviceSetMigMode(handle, wanted))
    if status != nvml.NVML_SUCCESS:
        # Left pending, the mode would change at the next reset, when nobody expects it.
        nvml.nvmlDeviceSetMigMode(handle, before)
    return status


def profiles(nvml: Any, handle: Any) -> tuple[MigProfile, ...]:
    """What instances the card can have; none where it has no MIG."""
    found = []
    for number in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        info = _profile_info(nvml, handle, number)
        if info is not None:
            found.append(_profile(nvml, handle, info))
    return tuple(found)


def instances(nvml: Any, handle: Any, known: tuple[MigProfile, ...]) -> tuple[MigInstance, ...]:
    """The GPU instances that are there."""
    uuids = _mig_uuids(nvml, handle)
    found = []
    for profile in known:
        for gpu_instance in _gpu_instances(nvml, handle, profile):
            # One that is removed while it is asked about is not there.
            with suppress(nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
                found.append(_instance(nvml, gpu_instance, uuids))
    return tuple(found)


def make(nvml: Any, handle: Any, *, profile: MigProfile, start: int, size: int) -> None:
    """Makes the GPU instance in these memory slices, and the compute instance that spans it, if need be."""
    place = nvml.c_nvmlGpuInstancePlacement_t(start=start, size=size)
    gpu_instance = next(
        (
            one
            for one in _gpu_instances(nvml, handle, profile)
            if _placement(nvml.nvmlGpuInstanceGetInfo(one)) == (start, size)
        ),
        None,
    )
    if gpu_instance is None:
        gpu_instance = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile.id, ctypes.byref(place))
    if not list(_compute_instances(nvml, gpu_instance)):
        widest = max(_compute_profiles(nvml, gpu_instance), key=lambda info: int(info.sliceCount))
        nvml.nvmlGpuInstanceCreateComputeInstance(gpu_instance, widest.id)


def remove(nvml: Any, handle: Any, *, number: int) -> None:
    """Removes a GPU instance and the compute instances in it; no error if it is gone."""
    # An administrator may be removing parts of it at the same time: what counts is that all of it is gone.
    with suppress(nvml.NVMLError_NotFound):
        gpu_instance = nvml.nvmlDeviceGetGpuInstanceById(handle, number)
        for compute, _ in list(_compute_instances(nvml, gpu_instance)):
            with suppress(nvml.NVMLError_NotFound):
                nvml.nvmlComputeInstanceDestroy(compute)
        nvml.nvmlGpuInstanceDestroy(gpu_instance)
    with suppress(nvml.NVMLError_NotFound):
        nvml.nvmlDeviceGetGpuInstanceById(handle, number)
        raise nvml.NVMLError(nvml.NVML_ERROR_IN_USE)


def _profile_info(nvml: Any, handle: Any, number: int) -> Any:
    try:
        return nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=2)
    except nvml.NVMLError_FunctionNotFound:
        return _quietly(nvml, lambda: nvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, number, version=1))
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
        return None


def _quietly(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
        return None


def _profile(nvml: Any, handle: Any, info: Any) -> MigProfile:
    memory_mib, slices = int(info.memorySizeMB), int(info.sliceCount)
    name = getattr(info, "name", b"")
    text = _text(name)
    counters = {counter: int(getattr(info, told)) for counter, told in _ENGINES.items()}
    return MigProfile(
        id=int(info.id),
        # Older drivers tell no name; this is how it is made up of the two numbers.
        name=text.removeprefix("MIG ").strip() or f"{slices}g.{round(memory_mib / 1024)}gb",
        memory_mib=memory_mib,
        most=int(info.instanceCount),
        placements=_placements(nvml, handle, int(info.id)),
        counters={_COMPUTE: slices, **counters},
    )


def _placements(nvml: Any, handle: Any, profile: int) -> tuple[tuple[int, int], ...]:
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile, None, ctypes.byref(count))
    found = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
    nvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, profile, found, ctypes.byref(count))
    return tuple((int(one.start), int(one.size)) for one in found[: count.value])


def _gpu_instances(nvml: Any, handle: Any, profile: MigProfile) -> list[Any]:
    count = ctypes.c_uint()
    found = (nvml.c_nvmlGpuInstance_t * max(profile.most, 1))()
    nvml.nvmlDeviceGetGpuInstances(handle, profile.id, found, ctypes.byref(count))
    return list(found[: count.value])


def _compute_profiles(nvml: Any, gpu_instance: Any) -> Iterator[Any]:
    shared = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    for number in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
        ask = partial(nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo, version=1)
        info = _quietly(nvml, partial(ask, gpu_instance, number, shared))
        if info is not None:
            yield info


def _compute_instances(nvml: Any, gpu_instance: Any) -> Iterator[tuple[Any, Any]]:
    """Each compute instance, and what is known of its profile."""
    for info in _compute_profiles(nvml, gpu_instance):
        count = ctypes.c_uint()
        found = (nvml.c_nvmlComputeInstance_t * max(int(info.instanceCount), 1))()
        nvml.nvmlGpuInstanceGetComputeInstances(gpu_instance, info.id, found, ctypes.byref(count))
        yield from ((one, info) for one in found[: count.value])


def _instance(nvml: Any, gpu_instance: Any, uuids: Mapping[tuple[int, int], str]) -> MigInstance:
    info = nvml.nvmlGpuInstanceGetInfo(gpu_instance)
    widest = max((int(one.sliceCount) for one in _compute_profiles(nvml, gpu_instance)), default=0)
    inside = list(_compute_instances(nvml, gpu_instance))
    numbers = tuple(int(nvml.nvmlComputeInstanceGetInfo_v2(one).id) for one, _ in inside)
    spanned = len(inside) == 1 and int(inside[0][1].sliceCount) == widest
    start, size = _placement(info)
    return MigInstance(
        id=int(info.id),
        profile=int(info.profileId),
        start=start,
        size=size,
        compute=numbers,
        spanned=spanned,
        uuid=uuids.get((int(info.id), numbers[0]), "") if len(numbers) == 1 else "",
    )


def _placement(info: Any) -> tuple[int, int]:
    return int(info.placement.start), int(info.placement.size)


def _mig_uuids(nvml: Any, handle: Any) -> dict[tuple[int, int], str]:
    found = {}
    for index in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        try:
            device = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError_NotFound:
            continue
        with suppress(nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
            found[_numbers(nvml, device)] = _text(nvml.nvmlDeviceGetUUID(device))
    return found


def _numbers(nvml: Any, device: Any) -> tuple[int, int]:
    return int(nvml.nvmlDeviceGetGpuInstanceId(device)), int(nvml.nvmlDeviceGetComputeInstanceId(device))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
