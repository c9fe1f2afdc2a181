"""A CUDA program: takes memory of a card step by step until it is refused, and says what it saw.

Runs as a process of its own, with or without the preload library in it; the last line of its output is a JSON
object. Only the driver API is used, so no CUDA toolkit is needed.

Arguments: the card's UUID without `GPU-` and dashes, bytes of a step, bytes to stop at.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any


class CudaError(Exception):
    """A call of the driver API failed; holds its name and CUDA's word for the error."""


class Cuda:
    """The few calls of libcuda.so.1 that are needed."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function.

        Raises:
            CudaError: It did not answer with success.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            word = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(word))
            raise CudaError(f"{name}: {(word.value or b'').decode() or code}")

    def device(self, uuid: str) -> ctypes.c_int:
        """The card with this UUID (hexadecimal digits); the number of a card differs from tool to tool."""
        count, device = ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        for ordinal in range(count.value):
            found = (ctypes.c_ubyte * 16)()
            self.call("cuDeviceGet", ctypes.byref(device), ordinal)
            self.call("cuDeviceGetUuid_v2", found, device)
            if bytes(found).hex() == uuid:
                return device
        raise CudaError(f"none of {count.value} cards has the UUID {uuid}")


def take(uuid: str, *, step: int, stop: int) -> dict[str, Any]:
    """Takes memory until it is refused or `stop` bytes are taken."""
    cuda = Cuda()
    total, free, context = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    cuda.call("cuInit", 0)
    device = cuda.device(uuid)
    cuda.call("cuDeviceTotalMem_v2", ctypes.byref(total), device)
    cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    cuda.call("cuCtxSetCurrent", context)
    found: dict[str, Any] = {"total": total.value, "taken": 0, "refusal": ""}
    cuda.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    found |= {"free": free.value, "told": total.value}
    while found["taken"] < stop:
        address = ctypes.c_uint64()
        try:
            cuda.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(step))
        except CudaError as refused:
            found["refusal"] = str(refused)
            break
        found["taken"] += step
    return found


def main(argv: list[str]) -> int:
    """Prints what was seen."""
    uuid, step, stop = argv
    try:
        found = take(uuid, step=int(step), stop=int(stop))
    except (CudaError, OSError) as failed:
        found = {"error": str(failed)}
    found["mapped"] = "libvgpu" in Path("/proc/self/maps").read_text()
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
