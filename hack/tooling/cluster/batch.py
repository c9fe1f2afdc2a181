"""Batch systems beside a cluster of `hack/cluster`: Kueue and Volcano, from their own sources and charts.

Purpose: what other people's queues and gang schedulers do with pods that our webhook converts is seen only
where theirs decide.
Flow: `hack/go/kueue` and `hack/go/volcano` lock the sources. `build.ensure` builds them, only when asked: no
cluster needs them. `write_images` makes an image of each program, as their Dockerfiles do; `chart` is the
chart that lies in the very module that was built, and `KUEUE_VALUES` and `VOLCANO_VALUES` are what makes it
use those images.
Limits: Kueue without its visibility API. Volcano without its admission webhooks (their certificates come from
a script in an image of theirs), so fields that they would fill in have to be written.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tooling.cluster import build
from tooling.cluster.errors import ClusterError
from tooling.cluster.paths import GO_MODULES
from tooling.oci import ImageConfig, Layer, write_image

if TYPE_CHECKING:
    from collections.abc import Mapping

_USER = "65532:65532"


@dataclass(frozen=True, kw_only=True)
class System:
    """A batch system: how it is built, where its chart is, and where its images have their programs."""

    tool: build.Tool
    go_module: str
    chart: str
    at: Mapping[str, str]

    def image(self, program: str) -> str:
        """The name of the image of one program."""
        return f"localhost/{program}:{self.tool.version}"


KUEUE = System(
    tool=build.Tool(
        name="kueue",
        version="0.14.5",
        module="kueue",
        programs={"kueue": "sigs.k8s.io/kueue/cmd/kueue"},
        link="-s -w -X sigs.k8s.io/kueue/pkg/version.GitVersion=v0.14.5",
        minutes=10,
    ),
    go_module="sigs.k8s.io/kueue",
    chart="charts/kueue",
    at={"kueue": "/manager"},
)
VOLCANO = System(
    tool=build.Tool(
        name="volcano",
        version="1.14.1",
        module="volcano",
        programs={
            "vc-controller-manager": "volcano.sh/volcano/cmd/controller-manager",
            "vc-scheduler": "volcano.sh/volcano/cmd/scheduler",
        },
        minutes=10,
    ),
    go_module="volcano.sh/volcano",
    chart="installer/helm/chart/volcano",
    at={"vc-controller-manager": "/vc-controller-manager", "vc-scheduler": "/vc-scheduler"},
)

SYSTEMS: Mapping[str, System] = {system.tool.name: system for system in (KUEUE, VOLCANO)}
"""All of them, by name."""

_SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}}
KUEUE_VALUES: Mapping[str, Any] = {
    "controllerManager": {
        "featureGates": [{"name": "VisibilityOnDemand", "enabled": False}],
        "manager": {
            "image": {
                "repository": "localhost/kueue",
                "tag": KUEUE.tool.version,
                "pullPolicy": "IfNotPresent",
            },
            "resources": _SMALL,
        },
    },
}
VOLCANO_VALUES: Mapping[str, Any] = {
    "basic": {
        "image_registry": "localhost",
        "image_tag_version": VOLCANO.tool.version,
        "image_pull_policy": "IfNotPresent",
        "controller_image_name": "vc-controller-manager",
        "scheduler_image_name": "vc-scheduler",
    },
    "custom": {"admission_enable": False},
}


def write_images(system: System, folder: Path) -> list[Path]:
    """An image of each program, as tars in `folder`. The programs must be built."""
    programs = build.folder_of(system.tool)
    made = []
    for program, at in system.at.items():
        layer = Layer.from_files({at: programs / program}, modes={at: 0o755}, directories=["tmp"])
        tar = folder / f"{program}.tar"
        config = ImageConfig(entrypoint=[at], user=_USER)
        write_image(out=tar, name=system.image(program), layers=[layer], config=config)
        made.append(tar)
    return made


def chart(system: System) -> Path:
    """The chart's folder, in Go's module cache, where the build has put it."""
    command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", system.go_module]
    found = subprocess.run(
        command,
        cwd=GO_MODULES / system.tool.module,
        env={**os.environ, "GOFLAGS": "", "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    folder = Path(found.stdout.strip()) / system.chart
    if found.returncode or not (folder / "Chart.yaml").is_file():
        raise ClusterError(
            f"the chart of {system.tool.name} {system.tool.version} is not in Go's module cache: "
            f"{found.stderr.strip() or folder}",
            remedy=f"Run: cd {GO_MODULES / system.tool.module} && go mod download {system.go_module}",
        )
    return folder
