"""The commit before this one, as far as the chart and the image go: what people upgrade from."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.support.target import ROOT

_SHIPPED = ("manifests/chart", "driver", "kubelet_plugin", "controller", "requirements")


@dataclass(frozen=True)
class Previous:
    """A tree of the previous commit."""

    commit: str
    root: Path

    @property
    def chart(self) -> Path:
        """Its chart."""
        return self.root / "manifests" / "chart"


def checkout() -> Previous | None:
    """The state before the newest commit that changed what is shipped; None if that had no chart.

    With changes that are not committed yet, the previous state is HEAD.
    """
    changed = _git("status", "--porcelain", "--", *_SHIPPED)
    commit = "HEAD" if changed else f"{_git('log', '-1', '--format=%H', '--', *_SHIPPED)}~1"
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{commit}:manifests/chart/values.yaml"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if known.returncode != 0:
        return None
    full = _git("rev-parse", commit)
    folder = Path(tempfile.mkdtemp(prefix="dragoman-previous-"))
    archive = folder / "tree.tar"
    subprocess.run(["git", "archive", f"--output={archive}", full], cwd=ROOT, check=True)
    subprocess.run(["tar", "-x", "-f", str(archive), "-C", str(folder)], check=True)
    archive.unlink()
    return Previous(full, folder)


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
