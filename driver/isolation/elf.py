"""What a program's file says about how the loader will treat it.

Purpose: a library named in `/etc/ld.so.preload` reaches a program only through glibc's dynamic loader, of the
same architecture, and new enough for the library. Where it did not come, this says why.

Limits: 64-bit little-endian ELF; reads two headers, never the whole file. Files come from containers: nothing
in them makes this read more than it may, and whatever is odd means "not known".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from driver.host import Host

_HEAD = 4096
_MAX_SEGMENTS = 64
_MAX_NAME = 256
_MAX_SYMBOLS = 1 << 20
_INTERPRETER = 3
_VERSION = re.compile(rb"GLIBC_2\.(\d{1,3})(?:\.\d{1,3})?\0")
_OLD_NAME = re.compile(r"libc-2\.(\d{1,3})\.so$")

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""Names of the architectures that a header may name, for people."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program's header.

    Attributes:
        bits: 32 or 64.
        machine: Number of its architecture.
        interpreter: Path of its loader; "" if it has none: it is linked statically.
    """

    bits: int
    machine: int
    interpreter: str


def read_program(path: str, *, host: Host) -> Program | None:
    """The header of a program or library; None if it is none that is understood.

    Raises:
        OSError: It cannot be read.
    """
    head = host.read_part(path, length=_HEAD, follow=True)
    if len(head) < 64 or head[:4] != b"\x7fELF" or head[5] != 1:
        return None
    (machine,) = struct.unpack_from("<H", head, 18)
    if head[4] != 2:
        return Program(bits=32, machine=machine, interpreter="")
    table, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    if size != 56 or count > _MAX_SEGMENTS or table > 1 << 40:
        return None
    segments = host.read_part(path, offset=table, length=size * count, follow=True)
    for start in range(0, len(segments) - size + 1, size):
        (kind,) = struct.unpack_from("<I", segments, start)
        offset, length = (
            *struct.unpack_from("<Q", segments, start + 8),
            *struct.unpack_from("<Q", segments, start + 32),
        )
        if kind == _INTERPRETER and length <= _MAX_NAME and offset <= 1 << 40:
            name = host.read_part(path, offset=offset, length=length, follow=True)
            return Program(
                bits=64, machine=machine, interpreter=name.rstrip(b"\0").decode("utf-8", "replace")
            )
    return Program(bits=64, machine=machine, interpreter="")


def newest_glibc(path: str, *, host: Host) -> int | None:
    """The highest `GLIBC_2.<n>` that a file names: what a library needs, or what a libc.so.6 offers.

    Returns:
        n; None where none is named in its first megabyte.

    Raises:
        OSError: It cannot be read.
    """
    content = host.read_part(path, length=_MAX_SYMBOLS)
    return max((int(found[1]) for found in _VERSION.finditer(content)), default=None)


def glibc_of(path: str, *, root: str, host: Host) -> int | None:
    """The version 2.<n> of the glibc that a process has mapped from `path`.

    Args:
        path: As /proc/<pid>/maps names it.
        root: Where the process' root is seen, as `/proc/<pid>/root`.
        host: The node.
    """
    old = _OLD_NAME.search(path)
    if old:
        return int(old[1])
    try:
        return newest_glibc(root + path, host=host)
    except OSError:
        return None
