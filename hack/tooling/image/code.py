"""The project's own packages, as they go into the image."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tooling.cluster.paths import REPOSITORY
from tooling.image.bytecode import compile_tree
from tooling.image.errors import ImageError

AT = "/opt/dragoman/app"
PACKAGES = ("controller", "driver", "kubelet_plugin")


def digest(root: Path = REPOSITORY) -> str:
    """A hash over names and content of all files of the packages."""
    total = hashlib.sha256()
    for path in _files(root):
        content = path.read_bytes()
        total.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def copy(folder: Path, *, base: Path, root: Path = REPOSITORY) -> None:
    """Copies the packages into `folder` and compiles them."""
    for path in _files(root):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o644)
    # What `importlib.metadata` asks for the version that processes report.
    metadata = folder / f"dragoman-{version(root)}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: dragoman\nVersion: {version(root)}\n")
    compile_tree(folder, base=base, at=AT)


def version(root: Path = REPOSITORY) -> str:
    """The project's version, as pyproject.toml has it."""
    for line in (root / "pyproject.toml").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "version":
            return value.strip().strip('"')
    raise ImageError("pyproject.toml names no version.")


def _files(root: Path) -> list[Path]:
    found = [path for package in PACKAGES for path in (root / package).rglob("*")]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)
