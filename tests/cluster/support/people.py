"""People with kubectl and the plugin on their PATH.

Flow: `administrator` has the cluster's own kubeconfig; `developer` is a ServiceAccount that may view one
namespace, and `reader` one that also has the chart's role for readers of the whole cluster.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from driver.kube.resources import PODS, RESOURCE_SLICES, Resource
from tests.cluster.support import waiting
from tests.cluster.support.api import JSON, SERVICE_ACCOUNTS, Api, Refused
from tests.cluster.support.target import ROOT, Target

_ROLE_BINDINGS = Resource(
    group="rbac.authorization.k8s.io",
    version="v1",
    plural="rolebindings",
    kind="RoleBinding",
    namespaced=True,
)
CLUSTER_ROLE_BINDINGS = Resource(
    group=_ROLE_BINDINGS.group,
    version="v1",
    plural="clusterrolebindings",
    kind="ClusterRoleBinding",
    namespaced=False,
)


@dataclass(frozen=True)
class Ran:
    """What a run said."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> JSON:
        """The answer as a program reads it."""
        assert self.out, self.err
        found: JSON = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Person:
    """Somebody with a kubeconfig, kubectl and the plugin on the PATH."""

    kubectl: str
    kubeconfig: Path
    path: str

    def dragoman(self, *arguments: str) -> Ran:
        """Runs `kubectl dragoman`, in lines as long as what they say.

        Whoever starts the tests may have set the width of their own terminal (COLUMNS), which wraps lines.
        """
        own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        done = subprocess.run(
            [self.kubectl, "dragoman", *arguments],
            env={**own, "KUBECONFIG": str(self.kubeconfig), "PATH": self.path},
            capture_output=True,
            text=True,
            timeout=waiting.PATIENCE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


def administrator(target: Target, folder: Path) -> Person:
    """Whoever runs the cluster.

    Args:
        target: The cluster.
        folder: Where the plugin may be put.
    """
    plugin = folder / "kubectl-dragoman"
    plugin.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m controller.kubectl "$@"\n')
    plugin.chmod(0o755)
    return Person(target.program("kubectl"), target.kubeconfig, f"{folder}:{os.environ['PATH']}")


def developer(admin: Person, api: Api, namespace: str, folder: Path) -> Person:
    """A ServiceAccount that may view a namespace.

    Args:
        admin: Whoever runs the cluster.
        api: The cluster, to the same.
        namespace: The namespace.
        folder: Where a kubeconfig may be put.
    """
    api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "developer"}}, namespace=namespace)
    binding = {
        "metadata": {"name": "developer"},
        "roleRef": {"apiGroup": _ROLE_BINDINGS.group, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "developer", "namespace": namespace}],
    }
    api.create(_ROLE_BINDINGS, binding, namespace=namespace)
    _wait_rights(api, namespace, to=PODS, within=namespace, has=True)
    return Person(admin.kubectl, _kubeconfig(api, namespace, admin.kubeconfig, folder), admin.path)


def reader(admin: Person, api: Api, namespace: str, folder: Path) -> Person:
    """A developer who was bound to `dragoman-reader` as well.

    Args:
        admin: Whoever runs the cluster.
        api: The cluster, to the same.
        namespace: The namespace that is theirs.
        folder: Where a kubeconfig may be put.
    """
    found = developer(admin, api, namespace, folder)
    binding = {
        "metadata": {"name": f"reader-of-{namespace}"},
        "roleRef": {"apiGroup": _ROLE_BINDINGS.group, "kind": "ClusterRole", "name": "dragoman-reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "developer", "namespace": namespace}],
    }
    api.create(CLUSTER_ROLE_BINDINGS, binding)
    _wait_rights(api, namespace, to=RESOURCE_SLICES, has=True)
    return found


def reader_no_more(api: Api, namespace: str) -> None:
    """Takes the role for readers away from the developer of a namespace, if it was not yet."""
    with contextlib.suppress(Refused):
        api.delete(CLUSTER_ROLE_BINDINGS, f"reader-of-{namespace}")
    _wait_rights(api, namespace, to=RESOURCE_SLICES, has=False)


def _wait_rights(api: Api, namespace: str, *, to: Resource, has: bool, within: str = "") -> None:
    """Waits until the API server goes by what was written: a command that begins before may see both."""
    where = {"namespace": within} if within else {}
    review: JSON = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:developer",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "group": to.group,
                "resource": to.plural,
                "verb": "list",
                **where,
            },
        },
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

    def seen() -> bool:
        answer = api.request("POST", path, body=review).json()
        return bool(answer["status"].get("allowed")) is has

    waiting.eventually(seen, what=f"{namespace} {'may' if has else 'may not'} list {to.plural}")


def _kubeconfig(api: Api, namespace: str, of: Path, folder: Path) -> Path:
    path = SERVICE_ACCOUNTS.path(namespace=namespace, name="developer", subresource="token")
    body: JSON = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = api.request("POST", path, body=body).json()["status"]["token"]
    document = yaml.safe_load(of.read_text())
    for one in document["clusters"]:
        authority = one["cluster"].pop("certificate-authority", "")
        if authority:
            data = (of.parent / authority).read_bytes()
            one["cluster"]["certificate-authority-data"] = base64.b64encode(data).decode()
    for one in document["contexts"]:
        one["context"]["namespace"] = namespace
    for one in document["users"]:
        one["user"] = {"token": token}
    found = folder / "developer"
    found.write_text(yaml.safe_dump(document))
    return found
