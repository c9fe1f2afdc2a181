"""What containers get of a share: a folder of ours with hard links to the share's sockets in it.

A container has its folder mounted for as long as it runs, and the daemon's own folders may come and go with
the daemon (seen with one that tidies up when it is ended). A folder of ours stays, and whenever the daemon
made its sockets anew, they are linked into it anew: so programs of running containers find the new daemon.

Should a folder of ours be made anew all the same (somebody removed it), containers of before keep the old
one and never reach the daemon again: each has a mark, by which that is noticed and told until a program
connects.

Limits: links need both folders on one file system and in one mount, which they are below one folder. A socket
is the same by whichever name it is connected to.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from kubelet_plugin.removal import remove_folder

_MARK = ".made"


class Joins:
    """The folders below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "joins"
        self._file = folder / "joins.json"
        self._known: dict[str, str] = {}

    def start(self) -> None:
        """Reads which folders containers may have."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(OSError, ValueError):
            self._known = {str(k): str(v) for k, v in json.loads(self._file.read_text()).items()}

    def names(self) -> frozenset[str]:
        """The namespaces of which there is a folder."""
        return frozenset(path.name for path in self._folder.iterdir())

    def path(self, name: str) -> Path:
        """The folder that containers of a namespace get."""
        return self._folder / name

    def join(self, name: str, *, source: Path, connected: bool) -> str:
        """Brings a namespace's folder up to date.

        Args:
            name: The namespace.
            source: Where the daemon has its sockets.
            connected: Whether a program is connected to it now.

        Returns:
            Why running containers cannot reach the daemon through it; "" if they can.
        """
        try:
            mark = self._mark(name)
            self._link(self.path(name), source=source)
            before = self._known.get(name)
            if before is None or (connected and before != mark):
                self._keep({**self._known, name: mark})
                before = mark
        except (OSError, ValueError) as failed:
            return f"Its sockets of MPS cannot be given to containers: {failed}."
        if before != mark:
            return (
                "Its folder was made anew, and containers that run see the old one: their next programs "
                "would have no limit. Delete the pod."
            )
        return ""

    def refresh(self, name: str, *, source: Path) -> None:
        """Links new sockets into a folder that is there, if the daemon has them where it usually does."""
        with suppress(OSError):
            if (self.path(name) / _MARK).exists():
                self._link(self.path(name), source=source)

    def forget(self, names: frozenset[str]) -> None:
        """Removes the folders of all namespaces but these; what cannot be removed now is, next time."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name not in names:
                    with suppress(OSError):
                        remove_folder(path)
        kept = {name: mark for name, mark in self._known.items() if name in names}
        if kept != self._known:
            with suppress(OSError):
                self._keep(kept)

    def _mark(self, name: str) -> str:
        folder = self.path(name)
        with suppress(FileNotFoundError):
            # Empty on a disk that was full: whoever finds it so finishes it.
            if mark := (folder / _MARK).read_text():
                return mark
        folder.mkdir(exist_ok=True)
        # Programs of any user go through here, and nobody writes.
        folder.chmod(0o755)
        mark = uuid4().hex
        (folder / _MARK).write_text(mark)
        return mark

    @staticmethod
    def _link(folder: Path, *, source: Path) -> None:
        found = {path.name: path.lstat() for path in source.iterdir() if not path.is_dir()}
        if "control" not in found:
            raise FileNotFoundError(f"{source}/control is missing")
        for path in folder.iterdir():
            if path.name not in found and path.name != _MARK:
                path.unlink()
        for name, wanted in found.items():
            target = folder / name
            with suppress(FileNotFoundError):
                if target.lstat().st_ino == wanted.st_ino:
                    continue
            fresh = folder / f".{name}.new"
            fresh.unlink(missing_ok=True)
            fresh.hardlink_to(source / name)
            fresh.replace(target)

    def _keep(self, known: dict[str, str]) -> None:
        """Notes it, and only then goes by it: what was not noted is not known after a restart."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self._file)
        self._known = known
