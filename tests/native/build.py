"""Compiles the C programs of the tests, each once: the result lies in a cache keyed by what went in.

    stub_library()     libvgpu.so with HAMi-core's contract, for containers and processes of tests
    region_layout()    the program that prints where a C compiler puts the fields of HAMi-core's region
    stub_vnpu()        libvnpu.so with HAMi-vnpu-core's contract; stub_amvgpu() the same for AMD
    probe()            the program that says what its container has
    mock_nvml()        libnvidia-ml.so.1, scripted by a file; `old=True` lacks what old drivers lack
    mock_dcmi()        libdcmi.so, scripted by a file; `old=True` lacks what old drivers lack
    mock_memory_limits()  libnvidia-ml.so.1 with what sets and tells limits of cgroups, and no more
    fake_cuda()        libcuda.so.1 with as much of it as `hack/check-gpu` calls
    static_probe()     the probe, linked statically
    empty_library()    a library without anything in it
    probe_rootfs()     {path in the image: file here} of a minimal image that runs the probe

Limits: needs gcc and glibc's headers. The image's files are this machine's libc, so it fits this machine's
architecture only.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tooling.cluster.paths import cache

SOURCES = Path(__file__).resolve().parent
_FLAGS = ("-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11")
_SHARED = ("-shared", "-fPIC", "-fvisibility=hidden")


class NativeBuildError(Exception):
    """A C program of the tests cannot be compiled here."""


class NoCompilerError(NativeBuildError):
    """This machine has no C compiler: outside of CI the tests that need one are then not run."""


def stub_library() -> Path:
    """The stub of the preload library, named `libvgpu.so`."""
    return _build("stub_vgpu.c", name="libvgpu.so", flags=_SHARED)


def stub_vnpu() -> Path:
    """The stub of HAMi-vnpu-core's library, named `libvnpu.so`."""
    return _build("stub_kin.c", name="libvnpu.so", flags=_SHARED)


def stub_amvgpu() -> Path:
    """The stub of HAMi's library for HIP, named `libamvgpu.so`."""
    return _build("stub_kin.c", name="libamvgpu.so", flags=(*_SHARED, "-DAUDIT"))


def probe() -> Path:
    """The program that prints what its container has."""
    return _build("probe.c", name="probe", flags=("-ldl",))


def region_layout() -> Path:
    """The program that prints the places of the fields of HAMi-core's region, in the order of its source."""
    return _build("region_layout.c", name="region-layout", flags=())


def mock_nvml(*, old: bool = False, beside: bool = False) -> Path:
    """A scripted NVML library, named `libnvidia-ml.so.1`; with `beside` the script lies beside it."""
    flags = (*_SHARED, "-Wl,-soname,libnvidia-ml.so.1", *(("-DOLD_DRIVER",) if old else ()))
    flags += _beside("MOCK_NVML_FILE") if beside else ()
    return _build("mock_nvml.c", name="libnvidia-ml.so.1", flags=flags)


def mock_dcmi(*, old: bool = False, beside: bool = False) -> Path:
    """A scripted DCMI library, named `libdcmi.so`; with `beside` the script lies beside it."""
    flags = (*_SHARED, "-Wl,-soname,libdcmi.so", *(("-DOLD_DRIVER",) if old else ()))
    flags += _beside("MOCK_DCMI_FILE") if beside else ()
    return _build("mock_dcmi.c", name="libdcmi.so", flags=flags)


def mock_memory_limits() -> Path:
    """A library that keeps the limits of cgroups in a file, named `libnvidia-ml.so.1`."""
    flags = (*_SHARED, "-Wl,-soname,libnvidia-ml.so.1")
    return _build("mock_memory_limits.c", name="libnvidia-ml.so.1", flags=flags)


def fake_cuda() -> Path:
    """A CUDA driver library without a card, named `libcuda.so.1`."""
    return _build("fake_cuda.c", name="libcuda.so.1", flags=(*_SHARED, "-Wl,-soname,libcuda.so.1"))


def static_probe() -> Path:
    """The same program, linked statically: no library can be loaded into it."""
    return _build("probe.c", name="probe-static", flags=("-static", "-Wno-error"))


def empty_library() -> Path:
    """A library that is loaded like the preload library and does nothing."""
    return _build("empty.c", name="empty.so", flags=_SHARED)


def probe_rootfs() -> dict[str, Path]:
    """The files of a minimal image that runs the probe: itself, the loader, and the libraries that it needs.

    The loader and libraries stand where this machine's loader looks for them.
    """
    program = probe()
    files = {"/probe": program}
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        found = re.search(r"(/\S+) \(0x", line)
        if found:
            files[found.group(1)] = Path(found.group(1)).resolve()
    # An auditing library has a C library of its own, which finds the loader only beside itself, where
    # distributions have it.
    libc = next(Path(path) for path in files if path.endswith("/libc.so.6"))
    loader = next(Path(path) for path in files if "/ld-linux" in path)
    files[str(libc.with_name(loader.name))] = files[str(loader)]
    # The stub library is mounted into the container and may need no more than the probe does.
    return files


def _beside(variable: str) -> tuple[str, ...]:
    source = SOURCES / "mock_beside.c"
    # A changed source is another library.
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    return (f'-DMOCK_VARIABLE="{variable}"', f"-DMOCK_BESIDE={digest}", str(source), "-ldl")


def _build(source: str, *, name: str, flags: Sequence[str]) -> Path:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompilerError("No C compiler found. On Debian and Ubuntu: apt-get install gcc libc6-dev.")
    path = SOURCES / source
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    texts = [path.read_text(), *(header.read_text() for header in sorted(SOURCES.glob("*.h")))]
    key = hashlib.sha256("\0".join((*texts, version, *_FLAGS, *flags)).encode()).hexdigest()[:16]
    result = cache() / "native" / f"{path.stem}-{key}" / name
    if result.exists():
        return result
    result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
        fresh = Path(scratch) / name
        # Libraries stand behind the source that needs them.
        done = subprocess.run(
            [compiler, *_FLAGS, "-o", fresh, path, *flags], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NativeBuildError(f"{source} does not compile:\n{done.stderr}")
        # Two test processes may build at once: the last rename wins, and both are the same.
        fresh.replace(result)
    return result
