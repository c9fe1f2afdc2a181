"""Puts the preload library on the node, as a new version beside the old ones.

Flow: the library's content names its file (`libvgpu-<sha256>.so`); a file of that name that is there already
is this version. Otherwise it is written beside and renamed, durably.

Limits: a file is never written into or removed: running containers have it mapped, and a mapped library that
changes kills them. A damaged one is replaced by renaming, which leaves mappings alone. A version takes about
a megabyte.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kubelet_plugin.prepare.durable import write_file

_DIGITS = 16
_MODE = 0o755
"""Containers run as any user."""


def install_library(library: Path, *, folder: Path) -> Path:
    """Installs a library below `folder`.

    Returns:
        Path of the installed version.

    Raises:
        OSError: The library cannot be read or the folder cannot be made.
        NodeStorageError: The folder cannot be written.
    """
    return install_version(library, folder=folder, stem="libvgpu", suffix=".so")


def install_version(source: Path, *, folder: Path, stem: str, suffix: str = "") -> Path:
    """Installs a file as `<folder>/<stem>-<digest><suffix>`; returns and raises as `install_library`."""
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    target = folder / f"{stem}-{digest}{suffix}"
    if not target.is_file() or target.read_bytes() != content or target.stat().st_mode & _MODE != _MODE:
        folder.mkdir(mode=_MODE, parents=True, exist_ok=True)
        write_file(target, content, mode=_MODE)
    return target
