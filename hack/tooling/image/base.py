"""The base of the image: Debian's smallest root file system with Python, unpacked in the cache.

Purpose: what a Dockerfile's FROM line would bring, where no registry is reached.
Flow: debootstrap into a temporary folder, security updates, removal of what a container never uses,
bytecode for the standard library; then one rename makes it the cached base. An interrupted build leaves
nothing that looks done.
Limits: the recipe and the mirror name the cached base, not the packages' versions: `--refresh-base`
makes it anew with today's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tooling.cluster.paths import cache
from tooling.cluster.progress import Report, step
from tooling.image.bytecode import compile_tree
from tooling.image.errors import ImageError
from tooling.image.mirror import SUITE, Mirror

PYTHON = "python3.11"

_PACKAGES = ("python3",)
_EXCLUDED = ("e2fsprogs", "libext2fs2", "libss2", "logsave", "mount", "tzdata")
# Read by dpkg from the first package on: the base is thrown away when the build breaks off, so nothing
# has to be brought to the disk package by package (half of debootstrap's time), and documentation is not
# even unpacked.
_DPKG_CONFIG = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
"""
_UNUSED = (
    "boot", "home", "media", "mnt", "opt", "srv", "root/.wget-hsts",
    "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian",
    "usr/share/bash-completion", "usr/share/debconf", "usr/share/perl5", "usr/share/pixmaps",
    "var/cache", "var/lib/apt", "var/log", "var/backups", "debootstrap",
    f"usr/lib/{PYTHON}/pydoc_data", f"usr/lib/{PYTHON}/lib2to3", f"usr/lib/{PYTHON}/distutils",
)  # fmt: skip
_KEPT_EMPTY = ("tmp", "var/cache", "var/log", "opt")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS = 900


def base_folder(mirror: Mirror) -> Path:
    """Where the base made by this recipe from this mirror lies in the cache."""
    recipe = Path(__file__).read_bytes() + Path(__file__).with_name("bytecode.py").read_bytes()
    key = hashlib.sha256(recipe + f"{SUITE} {mirror.archive} {mirror.security}".encode()).hexdigest()[:16]
    return cache() / "images" / f"base-{SUITE}-{key}"


def ensure_base(mirror: Mirror, *, report: Report, refresh: bool = False) -> Path:
    """The folder with the root file system, made when it is not in the cache or `refresh` asks for it.

    Raises:
        ImageError: Not root, no debootstrap to be had, or a mirror that does not answer.
    """
    target = base_folder(mirror)
    if target.is_dir() and not refresh:
        return target
    if os.geteuid() != 0:
        raise ImageError(
            "The root file system of the image can only be made by root.",
            remedy="Run hack/image as root; or use the Dockerfile with a container engine.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    report(f"Making the base of the image: Debian {SUITE} with {PYTHON} (about a minute)")
    with tempfile.TemporaryDirectory(prefix=".base-", dir=target.parent) as scratch:
        root = Path(scratch) / "root"
        with step("debootstrap", report=report):
            _debootstrap(root, mirror=mirror, report=report)
        if mirror.security:
            with step("security updates", report=report):
                _upgrade(root, mirror=mirror)
        with step("removal of what a container does not use, bytecode", report=report):
            _trim(root)
            compile_tree(root / "usr/lib" / PYTHON, base=root, at=f"/usr/lib/{PYTHON}")
        if target.exists():
            target.rename(Path(scratch) / "old")
        root.rename(target)
    return target


def _debootstrap(root: Path, *, mirror: Mirror, report: Report) -> None:
    config = root / "etc/dpkg/dpkg.cfg.d/image"
    config.parent.mkdir(parents=True)
    config.write_text(_DPKG_CONFIG)
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as scratch:
        command, environment = _debootstrap_command(Path(scratch))
        keyring = [f"--keyring={_KEYRING}"] if _KEYRING.exists() else []
        log = Path(scratch) / "log"
        choice = [f"--include={','.join(_PACKAGES)}", f"--exclude={','.join(_EXCLUDED)}"]
        _run(
            [*command, "--variant=minbase", *choice, *keyring, SUITE, str(root), mirror.archive],
            environment=environment,
            what="debootstrap",
            log=log,
        )
        count = sum(
            line.startswith("I: Configuring ") for line in log.read_text(errors="replace").splitlines()
        )
        report(f"  {count} packages configured")


def _debootstrap_command(scratch: Path) -> tuple[list[str], dict[str, str]]:
    """How debootstrap is called: the installed one, else Debian's package, unpacked and not installed."""
    if found := shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return [found], {}
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ImageError("debootstrap is not installed.", remedy="Install the package debootstrap.")
    download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "debootstrap"]
    if subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        _run(download, cwd=scratch, what="`apt-get download debootstrap`", log=scratch / "download.log")
    package = next(scratch.glob("debootstrap_*.deb"))
    _run(
        ["dpkg-deb", "-x", str(package), str(scratch / "deb")],
        what="unpacking debootstrap",
        log=scratch / "x.log",
    )
    return [str(scratch / "deb/usr/sbin/debootstrap")], {
        "DEBOOTSTRAP_DIR": str(scratch / "deb/usr/share/debootstrap")
    }


def _upgrade(root: Path, *, mirror: Mirror) -> None:
    """Brings the packages to the versions of the security archive, which debootstrap does not look at."""
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    lines = [
        f"deb {signed}{mirror.archive} {SUITE} main",
        f"deb {signed}{mirror.security} {SUITE}-security main",
    ]
    (root / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    for verb in (["update"], ["upgrade", "-y", "--no-install-recommends"]):
        _run(
            ["chroot", str(root), "apt-get", "-qq", "-o", "APT::Sandbox::User=root", *verb],
            environment=environment | proxies,
            what=f"`apt-get {verb[0]}` in the image",
            log=root.parent / f"{verb[0]}.log",
        )
    (root / "etc/resolv.conf").unlink()
    (root / "etc/apt/sources.list").unlink()


def _trim(root: Path) -> None:
    for name in _UNUSED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in _KEPT_EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for path in _walk(root, stat.S_ISREG):
        mode = path.lstat().st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)  # nothing in here has to change its user


def _walk(root: Path, wanted: Callable[[int], bool]) -> list[Path]:
    found = (Path(folder) / name for folder, _, files in os.walk(root) for name in files)
    return [path for path in found if wanted(path.lstat().st_mode)]


def _run(
    command: Sequence[str],
    *,
    what: str,
    log: Path,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    with log.open("wb") as output:
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ImageError(
                f"{what} did not finish within {_SECONDS // 60} min.", remedy="Is the mirror reached?"
            ) from None
    if done.returncode != 0:
        last = "\n  ".join(log.read_text(errors="replace").splitlines()[-8:])
        raise ImageError(f"{what} failed; the last that it said was:\n  {last}")
