"""Puts the layers together: base, dependencies, preload library, hook and code, which changes most.

Flow: everything that goes in makes a hash; an image of that hash in the cache is taken as it is; else it
is packed.
Limits: the last three images are kept in the cache, older ones are removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tooling import oci
from tooling.cluster.paths import cache
from tooling.cluster.progress import Report, step
from tooling.hook import HookBuildError, NoCompilerError, build_hook, build_nvml_hook
from tooling.image import code, wheels
from tooling.image.base import base_folder, ensure_base
from tooling.image.errors import ImageError
from tooling.image.mirror import Mirror

PRELOAD_LIBRARY = "/opt/dragoman/preload/libvgpu.so"
"""Where the preload library lies in the image; the agent installs it on the node from there."""

LIMIT_HOOK = "/opt/dragoman/hook/dragoman-hook"
"""Where the program lies that puts limits on cgroups; the agent installs it in the same way. Beside it lies
the one for NVIDIA's own accounting."""

NON_ROOT = "65532:65532"

_RECIPE = "6"
_KEPT = 3
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108 - the only folder that an unprivileged user of the image may write to
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": f"{code.AT}:{wheels.AT}",
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "USER": "dragoman",  # for libraries that ask who they are: the image's user has no entry in /etc/passwd
}


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image in the cache: its tar, its name, and whether it was there already."""

    tar: Path
    name: str
    cached: bool


def default_name() -> str:
    """The image's name where nobody chose one."""
    return f"localhost/dragoman:{code.version()}"


def build(
    *,
    name: str,
    mirror: Mirror,
    report: Report,
    preload_library: Path | None = None,
    refresh_base: bool = False,
) -> Built:
    """Makes the image, or finds it in the cache.

    Raises:
        ImageError: Something needed is missing, or a step failed; says which and why.
    """
    if preload_library is not None and not preload_library.is_file():
        raise ImageError(
            f"{preload_library} is not a file.", remedy="Build it, and check it with hack/preload-library."
        )
    folder = cache() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / ".lock"), closing(wheels.Wheels(report=report)) as dependencies:
        dependencies.start(base_folder(mirror).name)
        base = ensure_base(mirror, report=report, refresh=refresh_base)
        lib = dependencies.finish(base)
        parts = [
            _RECIPE,
            name,
            base.name,
            str(base.stat().st_mtime_ns),
            lib.name,
            code.digest(),
            code.version(),
        ]
        hooks = _hooks(report)
        parts += [str(program) for program in hooks.values()]
        if preload_library is not None:
            parts.append(hashlib.sha256(preload_library.read_bytes()).hexdigest())
        tar = folder / f"dragoman-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}.tar"
        if tar.exists():
            os.utime(tar)
            return Built(tar=tar, name=name, cached=True)
        with step("packing the image", report=report):
            _pack(tar, name=name, base=base, lib=lib, preload_library=preload_library, hooks=hooks)
        _forget_old(folder)
    return Built(tar=tar, name=name, cached=False)


def copy_out(tar: Path, output: Path) -> None:
    """Puts the image at `output`, whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        os.link(tar, partial)
    except OSError:
        shutil.copyfile(tar, partial)
    partial.replace(output)


def _hooks(report: Report) -> dict[str, Path]:
    """The programs that put limits on cgroups, by path in the image; their paths here name their content.

    Raises:
        ImageError: One does not compile.
    """
    try:
        return {LIMIT_HOOK: build_hook(), f"{LIMIT_HOOK}-nvml": build_nvml_hook()}
    except NoCompilerError as missing:
        report(f"The image will have no program that puts limits on cgroups: {missing}")
        return {}
    except HookBuildError as failed:
        raise ImageError(str(failed), remedy="On Debian and Ubuntu: apt-get install gcc libc6-dev.") from None


def _pack(
    tar: Path, *, name: str, base: Path, lib: Path, preload_library: Path | None, hooks: dict[str, Path]
) -> None:
    layers = [
        oci.Layer.from_directory(base, keep_owners=True),
        oci.Layer.from_directory(lib, prefix=wheels.AT),
    ]
    if preload_library is not None:
        modes = {PRELOAD_LIBRARY: 0o755}
        layers.append(oci.Layer.from_files({PRELOAD_LIBRARY: preload_library}, modes=modes))
    if hooks:
        layers.append(oci.Layer.from_files(hooks, modes=dict.fromkeys(hooks, 0o755)))
    with tempfile.TemporaryDirectory(prefix=".app-", dir=tar.parent) as scratch:
        folder = Path(scratch) / "app"
        code.copy(folder, base=base)
        layers.append(oci.Layer.from_directory(folder, prefix=code.AT))
        config = oci.ImageConfig(
            command=["python3", "-m", "controller"],
            env=_ENVIRONMENT,
            user=NON_ROOT,
            working_directory="/",
            labels={
                "org.opencontainers.image.title": "dragoman",
                "org.opencontainers.image.version": code.version(),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
            architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        )
        oci.write_image(out=tar, name=name, layers=layers, config=config)


def _forget_old(folder: Path) -> None:
    tars = sorted(folder.glob("dragoman-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in tars[_KEPT:]:
        old.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one builder at a time; it falls with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
