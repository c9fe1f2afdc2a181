"""Unix sockets that the kubelet finds: their names, and how they appear and go without hurting another's.

Flow: gRPC binds a hidden name beside the public one; `PublishedSocket.publish` links it and renames the link
over the public name. So a public name is either absent or a socket that accepts, a replaced socket is
replaced in one step, a public name that somebody removed comes back without a break of the connections, and
the name that gRPC unlinks when a server ends is never one that another process owns by now (two processes
that bind one path: the first to end removes the second's; tried).

Limits: AF_UNIX paths have at most 107 bytes. The kubelet passes over names that begin with a dot.
Source of the public names: the rolling-update scheme of Kubernetes' kubeletplugin helper.
"""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from pathlib import Path

from driver.errors import ConfigError

MAX_PATH_BYTES = 107
"""What fits into `sun_path` with its final NUL."""


def registration_path(folder: Path, *, driver: str, pod_uid: str) -> Path:
    """Path of the registration socket; hashed where the plain name would be too long.

    Raises:
        ConfigError: The folder's path alone leaves no room.
    """
    if not pod_uid:
        return _fitting(folder, f"{driver}-reg.sock")
    short = _encoded(hashlib.sha256(pod_uid.encode()).digest()[:8])
    shortest = _encoded(hashlib.sha256(f"{driver}\0{pod_uid}".encode()).digest()[:16])
    return _fitting(
        folder,
        f"{driver}-{pod_uid}-reg.sock",
        f"{driver}-{short}-reg.sock",
        f"dra-{shortest}-reg.sock",
    )


def service_path(folder: Path, *, pod_uid: str) -> Path:
    """Path of the DRA service socket; the same fallback as for the registration socket.

    Raises:
        ConfigError: The folder's path alone leaves no room.
    """
    if not pod_uid:
        return _fitting(folder, "dra.sock")
    short = _encoded(hashlib.sha256(pod_uid.encode()).digest()[:8])
    return _fitting(folder, f"dra-{pod_uid}.sock", f"dra-{short}.sock")


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _fitting(folder: Path, *names: str) -> Path:
    for name in names:
        # One byte is kept for the dot of the hidden name.
        if len(os.fsencode(folder / name)) < MAX_PATH_BYTES:
            return folder / name
    raise ConfigError(
        f"The path of a unix socket has at most {MAX_PATH_BYTES} bytes; {folder / names[-1]} is longer.",
        field=str(folder),
        remedy="Use a folder with a shorter path.",
    )


class PublishedSocket:
    """A socket's public name and the hidden one that a server binds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hidden = path.with_name(f".{path.name}")
        self._bound: tuple[int, int] | None = None

    def prepare(self) -> None:
        """Makes room for a server to bind `hidden`: the folder is there, what a dead process left is not."""
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.hidden.unlink(missing_ok=True)

    def bound(self) -> None:
        """Says that a server has bound `hidden`: from now on this socket is known by its inode."""
        self._bound = _inode(self.hidden)

    def publish(self) -> bool:
        """Shows the bound socket under its public name, in place of whatever is there.

        Returns:
            False if the hidden name is gone: the server has to bind anew.
        """
        if self._bound is None or _inode(self.hidden) != self._bound:
            return False
        linking = self.path.with_name(f".{self.path.name[:-1]}")
        try:
            # Renaming one link over another of the same file does nothing at all, so an own name goes first.
            self.retract()
            linking.unlink(missing_ok=True)
            linking.hardlink_to(self.hidden)
            linking.rename(self.path)
        except FileNotFoundError:
            return False
        return True

    def intact(self) -> bool:
        """Whether the public name leads to the socket that this process bound."""
        return self._bound is not None and self._bound == _inode(self.path)

    def taken(self) -> bool:
        """Whether another process has put its own socket in this one's place."""
        present = _inode(self.path)
        return present is not None and present != self._bound

    def retract(self) -> None:
        """Removes the public name if it is still ours; another's is left alone."""
        if self.intact():
            self.path.unlink(missing_ok=True)

    def connections(self) -> int:
        """How many clients are connected to the socket now.

        Counted among this process's own descriptors: the kernel lists an accepted connection in the network
        namespace of the client, so in a pod /proc/net/unix does not show the kubelet's (seen).
        """
        return sum(_is_accepted(int(name), str(self.hidden)) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208


def _is_accepted(descriptor: int, path: str) -> bool:
    """Whether a descriptor is a connection that was accepted on the socket bound to `path`."""
    try:
        # Only a socket may be duplicated as one: `fromfd` forgets to close what it cannot use.
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):  # noqa: PTH115
            return False
        with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as duplicate:
            if duplicate.getsockname() != path:
                return False
            duplicate.getpeername()  # fails for the socket that listens
    except OSError:
        return False
    return True


def accepts(path: Path) -> bool:
    """Whether somebody listens on a socket: one that a killed process left does not answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.05)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
