"""Limits on the memory of NVIDIA's cards by cgroup, where the kernel has no controller `dmem`: NVML's own.

Purpose: from release 615 on NVIDIA's driver counts memory by cgroup itself on older kernels, and takes
limits through NVML. Which of the two it does is the driver's choice (registry key RmMemacctMode).

Flow: `supported` asks the library for the limits of the agent's own cgroup, which needs no privilege; the
hook sets those of containers (`kubelet_plugin/hook/dragoman_hook_nvml.c`).

Source of names, structures and codes: nvidia-ml-py 13.615. Never run with a driver that has these
functions.

Limits: needs cgroup v2 all the same, as containers are named by their path in it. The driver's word is kept
for a minute.
"""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable
from typing import ClassVar

from driver.cards import Card
from driver.host import Host

LIBRARY = "libnvidia-ml.so.1"
OWN_CGROUP = "/sys/fs/cgroup"
"""Under cgroup v2 a container sees its own cgroup there, and a process of the node the root."""

KEPT_S = 60.0

_GPU = re.compile(r"GPU-[0-9A-Fa-f-]{8,64}")


class _Limits(ctypes.Structure):
    _fields_: ClassVar = [
        ("name_space", ctypes.c_char_p),
        ("soft", ctypes.c_ulonglong),
        ("hard", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


class NvmlLimits:
    """Whether NVIDIA's driver takes limits for cgroups, asked at most once a minute for each card."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}

    def why_not(self, card: Card, *, host: Host) -> str:
        """Why the driver takes no limit for this card, as a sentence; "" if it does."""
        if card.vendor != "nvidia" or card.partition is not None or not _GPU.fullmatch(card.uuid):
            return "Only NVIDIA's driver limits whole cards of its own."
        with self._lock:
            asked, answer = self._known.get(card.uuid, (0.0, ""))
            if card.uuid not in self._known or self._clock() - asked > KEPT_S:
                answer = _ask(card.uuid, host=host)
                self._known[card.uuid] = (self._clock(), answer)
            return answer


def _ask(uuid: str, *, host: Host) -> str:
    try:
        nvml = host.load_library(LIBRARY)
        initialise, handle, get, end = (
            nvml.nvmlInit_v2,
            nvml.nvmlDeviceGetHandleByUUID,
            nvml.nvmlDeviceGetMemoryLimits_v1,
            nvml.nvmlShutdown,
        )
    except OSError:
        return "NVIDIA's management library is not on this node."
    except AttributeError:
        return "NVIDIA's driver takes limits for cgroups from release 615 on; this node's is older."
    code = initialise()
    if code:
        return f"NVIDIA's management library cannot be used (code {code})."
    try:
        device = ctypes.c_void_p()
        limits = _Limits(name_space=OWN_CGROUP.encode())
        code = handle(uuid.encode(), ctypes.byref(device)) or get(device, ctypes.byref(limits))
    finally:
        end()
    return f"NVIDIA's driver limits no memory of cgroups for this card (code {code})." if code else ""
