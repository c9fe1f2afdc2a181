"""What the tests put on the node: the project's image, the probe's image, and the stub preload library.

Flow: `hack/image` makes the first (from the cache when nothing changed), `tests/native` the others.
Limits: on a cluster that is not ours (DRAGOMAN_KUBECONFIG) the project's image is already there and named by
DRAGOMAN_IMAGE; the probe's is brought through the node where there is a way to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.cluster.support.manifests import PROBE
from tests.cluster.support.target import ROOT, Target
from tests.native import build as native
from tooling.image import code
from tooling.oci import ImageConfig, Layer, write_image


@dataclass(frozen=True)
class Images:
    """What was made for this run."""

    project: str
    project_tar: Path | None
    probe_tar: Path
    library: Path

    def load(self, target: Target) -> None:
        """Brings the images to the cluster's node."""
        if target.own is not None:
            if self.project_tar is not None:
                target.own.load_image(self.project_tar)
            target.own.load_image(self.probe_tar)
        elif target.has_node:
            there = PurePosixPath("/var/lib/dragoman-probe.tar")
            target.node.write_file(there, self.probe_tar.read_bytes())
            target.node.run("ctr", "-n", "k8s.io", "images", "import", str(there))
            target.node.remove_files(there)

    def install_library(self, target: Target, folder: PurePosixPath) -> PurePosixPath:
        """Puts the stub preload library on the node; returns where."""
        at = folder / "libvgpu.so"
        target.node.run("mkdir", "-p", str(folder))
        target.node.write_file(at, self.library.read_bytes())
        return at


def make_images(*, folder: Path) -> Images:
    """Makes all images, or takes them from the cache."""
    given = os.environ.get("DRAGOMAN_IMAGE", "")
    tar = None if given else folder / "project.tar"
    if tar is not None:
        # Named by what is in it: an upgrade to the same name would start nothing anew.
        given = make_project(root=ROOT, tar=tar, name=f"localhost/dragoman:{code.digest()[:12]}")
    return Images(
        project=given,
        project_tar=tar,
        probe_tar=make_probe(folder / "probe.tar"),
        library=native.stub_library(),
    )


def make_probe(tar: Path) -> Path:
    """The image of the probe: one program and the libraries that it is linked to."""
    layer = Layer.from_files(native.probe_rootfs(), modes={"/probe": 0o755}, directories=["tmp", "etc"])
    write_image(out=tar, name=PROBE, layers=[layer], config=ImageConfig(entrypoint=["/probe"]))
    return tar


def make_project(*, root: Path, tar: Path, name: str) -> str:
    """The image of the tree at `root`; its name."""
    environment = {**os.environ, "PYTHONPATH": str(root / "hack")}
    command = [sys.executable, "-m", "tooling.image", "--name", name, "--output", str(tar)]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"hack/image failed:\n{done.stdout}\n{done.stderr}"
    return name
