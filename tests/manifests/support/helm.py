"""The chart as Helm renders it, without a cluster.

Helm comes from the PATH or is the one that `hack/cluster` builds; so these tests belong to the cluster part.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tooling.cluster.build import HELM, ensure
from tooling.cluster.progress import silent

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "manifests" / "chart"
IMAGE: dict[str, Any] = {"image": {"repository": "registry.example.org/dragoman"}}
KUBERNETES = "1.36.3"

Document = dict[str, Any]


@functools.cache
def helm() -> str:
    """Helm's path."""
    return shutil.which("helm") or str(ensure(HELM, report=silent) / "helm")


def run(*arguments: str, values: Document | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Helm with values."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values or {}, file)
        file.flush()
        command = [helm(), *arguments, "--values", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def render_text(values: Document | None = None) -> str:
    """The manifests that `helm install dragoman` would send, with an image unless the values name one."""
    done = run(
        "template", "dragoman", str(CHART), "--namespace", "dragoman-system", "--kube-version", KUBERNETES,
        values={**IMAGE, **(values or {})},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def golden_text(values: Document) -> str:
    """The rendering without the CRDs: they follow from the models, which `hack/generate --check` guards."""
    parts = render_text(values).split("\n---\n")
    return "\n---\n".join(part for part in parts if "\nkind: CustomResourceDefinition\n" not in part)


def refusal(values: Document) -> str:
    """What Helm says about values that it refuses."""
    done = run("template", "dragoman", str(CHART), "--kube-version", KUBERNETES, values=values)
    assert done.returncode != 0, done.stdout
    return done.stderr


def render(values: Document | None = None) -> list[Document]:
    """The same as documents."""
    return [one for one in yaml.safe_load_all(render_text(values)) if one]


def only(documents: list[Document], kind: str, name: str = "") -> Document:
    """The one document of a kind (and name)."""
    (found,) = [
        one for one in documents if one["kind"] == kind and (not name or one["metadata"]["name"] == name)
    ]
    return found


def container(workload: Document) -> Document:
    """The one container of a DaemonSet, Deployment or Job."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(workload: Document) -> dict[str, Any]:
    """Environment of a workload's container: name to value, or to its source."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(workload)["env"]}
