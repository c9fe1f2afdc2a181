"""Removes a folder whose content somebody hostile may have made.

Purpose: containers write into the regions of their shares. Folders nested thousands of levels deep, or
hundreds of thousands of files, must neither keep a claim from being unprepared nor cost the agent memory.

Flow: files go where they are found, one entry read at a time; a folder within a folder is first moved to the
top, so that there is never more than one level to look into: no recursion, no long paths, two open folders.

Limits: blocks. Without the capability CAP_DAC_OVERRIDE, what lies in folders of other users stays. Links are
removed and never followed. Nobody may be adding to the folder any more: each round
looks at it again until it is empty.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_folder(path: Path) -> None:
    """Removes a folder with all it holds; no error if it is missing.

    Raises:
        OSError: Something in it cannot be removed, or it is no folder.
    """
    try:
        top = os.open(path, _FOLDER)
    except FileNotFoundError:
        return
    try:
        while _empty(top, top=top):
            pass
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        path.rmdir()


def _empty(folder: int, *, top: int) -> bool:
    """Removes what one look into a folder shows; whether there was anything."""
    found = False
    # Opened anew: a duplicate would share its position with the last look.
    again = os.open(".", _FOLDER, dir_fd=folder)
    try:
        with os.scandir(again) as entries:
            for entry in entries:
                found = True
                with suppress(FileNotFoundError):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=folder)
                    elif folder == top:
                        _remove_below(entry.name, top=top)
                    else:
                        _make_accessible(entry.name, dir_fd=folder)
                        os.rename(entry.name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(again)
    return found


def _remove_below(name: str, *, top: int) -> None:
    _make_accessible(name, dir_fd=top)
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        while _empty(folder, top=top):
            pass
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _make_accessible(name: str, *, dir_fd: int) -> None:
    """Opens up a folder of the agent's own user; of others' folders the modes are as they are."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        with suppress(PermissionError):
            # By this way round, as chmod itself would follow a link that takes the folder's place.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # noqa: PTH101 - not a path of its own
    finally:
        os.close(handle)
