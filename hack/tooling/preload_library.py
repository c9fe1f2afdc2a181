"""`hack/preload-library`: is this libvgpu.so one that Dragoman can hold limits with?

Purpose: a library that cannot be loaded into a container is passed over by the loader with no more than a
line on stderr, and the container then runs without its limit. What can be known beforehand is checked here.

Flow: the ELF header (a 64-bit shared library of a known processor), the variables of HAMi-core's contract in
its text, the newest glibc that it asks for; then a copy at `--output`, whole or not at all.

Limits: the library is neither built nor run here. That it enforces what it promises is shown by
`hack/check-gpu` on a machine with a card.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONTRACT = (
    "CUDA_DEVICE_MEMORY_LIMIT",
    "CUDA_DEVICE_SM_LIMIT",
    "CUDA_DEVICE_MEMORY_SHARED_CACHE",
    "GPU_CORE_UTILIZATION_POLICY",
)
"""Variables that `driver.isolation.preload` sets; a library that does not know one of them holds no limit."""

OLDEST_GLIBC = "2.28"
"""What a library may ask for at most by default: Red Hat 8, Debian 10 and all that is newer have it."""

_PROCESSORS = {62: "x86_64", 183: "aarch64"}
_SHARED_LIBRARY = 3
_HEADER = struct.Struct("<4sBBB9xHH")
_EPILOG = """\
Dragoman contains no preload library. Build HAMi-core's at a commit of your
choice as its own documentation says (github.com/Project-HAMi/HAMi-core), on a
system as old as the oldest image that will run with it. Then:

  hack/preload-library path/to/libvgpu.so --output libvgpu.so
  hack/image --preload-library libvgpu.so

Its limits have been seen in force on a card if hack/check-gpu says so there.
"""


class LibraryError(Exception):
    """The file cannot serve as the preload library; says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Library:
    """What is known of a library.

    Attributes:
        processor: As `uname -m` prints it.
        glibc: Newest version of glibc that it asks for; "" if it names none.
        sha256: Digest of the file; its first 16 digits name the version on the nodes.
    """

    processor: str
    glibc: str
    sha256: str


def inspect(content: bytes, *, max_glibc: str) -> Library:
    """Checks a library.

    Raises:
        LibraryError: It cannot serve.
    """
    processor = _processor(content)
    missing = [name for name in CONTRACT if name.encode() not in content]
    if missing:
        raise LibraryError(
            f"it does not know {', '.join(missing)}: this is not a library with HAMi-core's contract."
        )
    glibc = max(_glibc_versions(content), key=_numbers, default="")
    if glibc and _numbers(glibc) > _numbers(max_glibc):
        raise LibraryError(
            f"it asks for glibc {glibc}. In an image with an older one the loader passes it over and the "
            f"container runs without its limit. Build it on a system with glibc {max_glibc}, or say with "
            "--max-glibc which is the oldest that your images have."
        )
    return Library(processor=processor, glibc=glibc, sha256=hashlib.sha256(content).hexdigest())


def copy(content: bytes, output: Path) -> None:
    """Puts the library at `output`, whole or not at all.

    Raises:
        LibraryError: Another one lies there: running processes may have it mapped.
    """
    if output.exists():
        if output.read_bytes() == content:
            return
        raise LibraryError(
            f"{output} is another library. Choose another name: one that processes use is never written over."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_name(f".{output.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    fresh.rename(output)


def main(argv: Sequence[str] | None = None) -> int:
    """Checks and copies; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/preload-library",
        description="Checks a libvgpu.so that you have built,\nand puts it where hack/image takes it from.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("library", type=Path, metavar="FILE", help="the library that you have built")
    parser.add_argument("--output", type=Path, metavar="FILE", help="copy it there (default: only check it)")
    parser.add_argument(
        "--max-glibc",
        default=OLDEST_GLIBC,
        metavar="VERSION",
        help=f"oldest glibc of the images that will run with it (default: {OLDEST_GLIBC})",
    )
    arguments = parser.parse_args(argv)
    if not re.fullmatch(r"2\.\d+(\.\d+)?", arguments.max_glibc):
        parser.error(f"--max-glibc: {arguments.max_glibc!r} is not a version of glibc such as {OLDEST_GLIBC}")
    try:
        content = arguments.library.read_bytes()
        found = inspect(content, max_glibc=arguments.max_glibc)
        if arguments.output is not None:
            copy(content, arguments.output)
    except (LibraryError, OSError) as refused:
        print(f"hack/preload-library: {arguments.library}: {refused}", file=sys.stderr)
        return 1
    needs = f"glibc {found.glibc} or newer" if found.glibc else "no particular glibc"
    print(f"{arguments.library}: for {found.processor}, needs {needs}; version {found.sha256[:16]}")
    if arguments.output is not None:
        print(f"copied to {arguments.output}; next: hack/image --preload-library {arguments.output}")
    return 0


def _processor(content: bytes) -> str:
    if len(content) < _HEADER.size:
        raise LibraryError("it is no shared library.")
    magic, bits, order, _, kind, machine = _HEADER.unpack_from(content)
    if magic != b"\x7fELF" or kind != _SHARED_LIBRARY:
        raise LibraryError("it is no shared library.")
    if bits != 2 or order != 1 or machine not in _PROCESSORS:
        raise LibraryError(
            f"it is not for a processor that is supported ({', '.join(_PROCESSORS.values())})."
        )
    return _PROCESSORS[machine]


def _glibc_versions(content: bytes) -> set[str]:
    return {match.decode() for match in re.findall(rb"GLIBC_(2\.\d+(?:\.\d+)?)\0", content)}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


if __name__ == "__main__":
    sys.exit(main())
