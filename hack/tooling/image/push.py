"""Brings the image to a registry with whatever tool this machine has for that."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tooling.cluster.progress import Report
from tooling.image.errors import ImageError

Which = Callable[[str], str | None]


def push_commands(tar: Path, *, name: str, reference: str, which: Which = shutil.which) -> list[list[str]]:
    """The commands that push the tar as `reference`, with the first tool that is there.

    Raises:
        ImageError: There is no such tool; says what to do without one.
    """
    if which("skopeo"):
        return [["skopeo", "copy", f"oci-archive:{tar}", f"docker://{reference}"]]
    if which("crane"):
        return [["crane", "push", str(tar), reference]]
    for engine in ("podman", "docker"):
        if which(engine):
            return [
                [engine, "load", "--input", str(tar)],
                [engine, "tag", name, reference],
                [engine, "push", reference],
            ]
    raise ImageError(
        "Nothing on this machine can push an image: there is neither skopeo, crane, podman nor docker.",
        remedy=f"Copy {tar} to a machine that has one; or import it on each node: "
        f"ctr --namespace k8s.io images import {tar.name}",
    )


def push(tar: Path, *, name: str, reference: str, report: Report) -> None:
    """Pushes the image; the tool's own credentials are used, none pass through here."""
    for command in push_commands(tar, name=name, reference=reference):
        report(f"  {' '.join(command)}")
        _run(command)


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise ImageError(
            f"`{' '.join(command)}` failed (above).", remedy="Is the machine logged in to that registry?"
        )
