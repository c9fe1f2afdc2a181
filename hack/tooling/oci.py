"""Writes container images without a container engine and without a registry.

Purpose: turn files into one tar that is an OCI image layout (and, for older engines, a Docker archive), so
that ``ctr images import``, ``docker load`` and ``kind load image-archive`` all take it.

Flow: each `Layer` is streamed into a temporary file while its digest is computed; then the layers, the
config, the manifest and the index are put into the final tar, which takes its place by a rename.

Limits: layers are not compressed. No device nodes, sockets or extended attributes. The same content always
gives the same bytes: entries are sorted, times are fixed, owners are 0:0 unless asked otherwise. Memory use
does not depend on the size of the files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FULL_NAME = re.compile(
    r"^(?=[^/]*[.:]|localhost/)[a-z0-9.:-]+(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
)
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, folder, symbolic link or hard link of a layer, at `path` without a leading slash."""

    path: str
    type: bytes
    mode: int
    content: Path | bytes | None = None
    target: str = ""
    owner: tuple[int, int] = (0, 0)

    def tar_info(self) -> tarfile.TarInfo:
        """The entry's header, with every field that could differ between two runs fixed."""
        info = tarfile.TarInfo(self.path)
        info.type = self.type
        info.mode = self.mode
        info.linkname = self.target
        info.uid, info.gid = self.owner
        info.mtime = 0
        if isinstance(self.content, bytes):
            info.size = len(self.content)
        elif isinstance(self.content, Path):
            info.size = self.content.stat().st_size
        return info


@dataclass(frozen=True)
class Layer:
    """One layer of an image: its entries, parents before children, sorted by path."""

    entries: tuple[Entry, ...]

    @classmethod
    def from_directory(cls, root: Path, *, prefix: str = "", keep_owners: bool = False) -> Layer:
        """Everything below `root`, put below `prefix` of the image.

        Modes, symbolic and hard links are kept. Device nodes, sockets and pipes are left out: a container's
        runtime makes its own. `keep_owners` keeps the numeric owners (a root file system); else all belongs
        to root.
        """
        if not root.is_dir():
            raise ValueError(f"{root} is not a folder: a layer is made of one")
        entries = _parents(_clean(prefix)) if prefix else {}
        seen: dict[tuple[int, int], str] = {}
        for path in _walk(root):
            relative = PurePosixPath(_clean(prefix) if prefix else ".") / path.relative_to(root).as_posix()
            entry = _entry_of(path, str(relative), seen=seen, keep_owners=keep_owners)
            if entry is not None:
                entries[entry.path] = entry
        return cls(tuple(entries[name] for name in sorted(entries)))

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, Path | bytes],
        *,
        symlinks: Mapping[str, str] | None = None,
        modes: Mapping[str, int] | None = None,
        directories: Sequence[str] = (),
    ) -> Layer:
        """Named files (a path on this machine, or the bytes themselves), symbolic links and empty folders.

        A file's mode comes from `modes`, else from the file itself, else it is 0644. Parent folders are
        added. `modes` may name folders too.
        """
        chosen = {_clean(name): mode for name, mode in (modes or {}).items()}
        entries: dict[str, Entry] = {}
        for name, content in files.items():
            path = _clean(name)
            own = stat.S_IMODE(content.stat().st_mode) if isinstance(content, Path) else 0o644
            entries.update(_parents(str(PurePosixPath(path).parent)))
            entries[path] = Entry(
                path=path, type=tarfile.REGTYPE, mode=chosen.pop(path, own), content=content
            )
        for name, target in (symlinks or {}).items():
            path = _clean(name)
            entries.update(
                {k: v for k, v in _parents(str(PurePosixPath(path).parent)).items() if k not in entries}
            )
            entries[path] = Entry(path=path, type=tarfile.SYMTYPE, mode=0o777, target=target)
        for name in directories:
            entries.update({k: v for k, v in _parents(_clean(name)).items() if k not in entries})
        for path, mode in chosen.items():
            if path not in entries:
                raise ValueError(f"a mode is given for {path!r}, which is not in the layer")
            old = entries[path]
            entries[path] = Entry(path=path, type=old.type, mode=mode, content=old.content, target=old.target)
        return cls(tuple(entries[name] for name in sorted(entries)))


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How a container of the image is started, in the words of the OCI image config."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_directory: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "amd64"

    def document(self, diff_ids: Sequence[str]) -> bytes:
        """The config as bytes, always the same for the same values."""
        run: dict[str, object] = {
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.command),
            "Env": [f"{name}={value}" for name, value in sorted(self.env.items())],
            "User": self.user,
            "WorkingDir": self.working_directory,
            "Labels": dict(self.labels),
        }
        return _json(
            {
                "created": "1970-01-01T00:00:00Z",
                "architecture": self.architecture,
                "os": "linux",
                "config": {key: value for key, value in run.items() if value},
                "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            }
        )


def write_image(*, out: Path, name: str, layers: Sequence[Layer], config: ImageConfig) -> str:
    """Writes the image as a tar to `out` and returns the digest of its manifest.

    `name` is the full name with registry and tag (``docker.io/local/pause:1``), for the kubelet looks images
    up by it.
    """
    if not _FULL_NAME.match(name):
        raise ValueError(f"{name!r} is not a full image name: write it as registry/repository:tag")
    if not layers:
        raise ValueError("an image needs at least one layer")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch)
        blobs = [_write_layer(layer, folder / f"layer-{number}") for number, layer in enumerate(layers)]
        partial = folder / "image.tar"
        digest = _assemble(partial, name=name, blobs=blobs, config=config)
        partial.replace(out)
    return digest


@dataclass(frozen=True)
class _Blob:
    """A finished layer on disk."""

    path: Path
    digest: str
    size: int


class _Hashing(io.RawIOBase):
    """Passes what is written on to a file and keeps its digest and length."""

    def __init__(self, to: IO[bytes]) -> None:
        self._to = to
        self._sum = hashlib.sha256()
        self.length = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = memoryview(data)  # type: ignore[arg-type]
        self._to.write(part)
        self._sum.update(part)
        self.length += part.nbytes
        return part.nbytes

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()


def _write_layer(layer: Layer, path: Path) -> _Blob:
    with path.open("wb") as file:
        sink = _Hashing(file)
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for entry in layer.entries:
                _add(tar, entry.tar_info(), entry.content)
    return _Blob(path, sink.digest, sink.length)


def _assemble(path: Path, *, name: str, blobs: Sequence[_Blob], config: ImageConfig) -> str:
    document = config.document([f"sha256:{blob.digest}" for blob in blobs])
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _descriptor(_CONFIG_TYPE, document),
            "layers": [
                {"mediaType": _LAYER_TYPE, "digest": f"sha256:{blob.digest}", "size": blob.size}
                for blob in blobs
            ],
        }
    )
    annotations = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    descriptor = _descriptor(_MANIFEST_TYPE, manifest) | {"annotations": annotations}
    index = _json({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [descriptor]})
    archive = _json(
        [
            {
                "Config": _blob_path(_digest(document)),
                "RepoTags": [name],
                "Layers": [_blob_path(blob.digest) for blob in blobs],
            }
        ]
    )
    members: dict[str, Path | bytes] = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": index,
        "manifest.json": archive,
        _blob_path(_digest(document)): document,
        _blob_path(_digest(manifest)): manifest,
        **{_blob_path(blob.digest): blob.path for blob in blobs},
    }
    with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, content in members.items():
            _add(
                tar, Entry(path=member, type=tarfile.REGTYPE, mode=0o644, content=content).tar_info(), content
            )
    return f"sha256:{_digest(manifest)}"


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: Path | bytes | None) -> None:
    if isinstance(content, Path):
        with content.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info, io.BytesIO(content) if content is not None else None)


def _walk(root: Path) -> Iterator[Path]:
    """All below `root` in the order of a layer, so that a hard link comes after what it names."""
    found = (Path(folder, name) for folder, folders, files in os.walk(root) for name in [*folders, *files])
    yield from sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _entry_of(path: Path, name: str, *, seen: dict[tuple[int, int], str], keep_owners: bool) -> Entry | None:
    found = path.lstat()
    owner = (found.st_uid, found.st_gid) if keep_owners else (0, 0)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return Entry(path=name, type=tarfile.SYMTYPE, mode=0o777, target=str(path.readlink()), owner=owner)
    if stat.S_ISDIR(found.st_mode):
        return Entry(path=name, type=tarfile.DIRTYPE, mode=mode, owner=owner)
    if not stat.S_ISREG(found.st_mode):
        return None
    first = seen.setdefault((found.st_dev, found.st_ino), name)
    if first != name:
        return Entry(path=name, type=tarfile.LNKTYPE, mode=mode, target=first, owner=owner)
    return Entry(path=name, type=tarfile.REGTYPE, mode=mode, content=path, owner=owner)


def _parents(path: str) -> dict[str, Entry]:
    """The folder `path` and all above it, as entries."""
    found: dict[str, Entry] = {}
    for folder in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
        if str(folder) not in (".", "/"):
            found[str(folder)] = Entry(path=str(folder), type=tarfile.DIRTYPE, mode=0o755)
    return found


def _clean(name: str) -> str:
    """`name` without its leading slash; refuses what would leave the image's root."""
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts or str(path) == ".":
        raise ValueError(f"{name!r} is not a path inside an image")
    return str(path)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{_digest(content)}", "size": len(content)}


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
