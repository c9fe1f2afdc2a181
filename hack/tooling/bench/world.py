"""What the API server has to know for a measurement: a node, allocated claims, the pods that use them.

Flow: `Access` (a service account that both drivers are) -> `make_node` -> `make_claims`, which writes
`status.allocation` and `reservedFor` itself, as the scheduler would have.

The node exists in the API server only, so no kubelet starts the pods. A claim of `dragoman.dev` is a limited
share (memory and compute) of one card and belongs to a pod of its own, because a limited share has to; claims
of the example driver name one of its devices and are all reserved for one pod, since that driver looks at no
pods.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from driver.cards import DRIVER_NAME, device_name, pool_name
from driver.kube.resources import NODES, PODS, RESOURCE_CLAIMS
from tests.cluster.support.api import CRDS, NAMESPACES, SERVICE_ACCOUNTS, Api, Refused
from tooling.bench.errors import BenchError
from tooling.bench.kubelet import Ref
from tooling.cluster.progress import Report, silent, step
from tooling.generate.crd import DEFINITIONS

NODE = "bench-node"
NAMESPACE = "dragoman-bench"
CARDS = 16
EXAMPLE_DRIVER = "gpu.example.com"
_MEMORY = "64Mi"
_CORES = "1"
_ACCOUNT = "bench"
_WRITERS = 6
JSON = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the measured drivers reach the API server.

    Attributes:
        server: Its URL.
        ca_file: Its CA.
        token_file: A service account's token.
    """

    server: str
    ca_file: Path
    token_file: Path


def simulated_cards() -> JSON:
    """The cards of our node, as a SimulatedNode."""
    return {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "SimulatedNode",
        "cards": [
            {
                "vendor": "nvidia",
                "model": "NVIDIA A100-SXM4-80GB",
                "memory": "80Gi",
                "uuid": _card_uuid(index),
                "pciBusID": f"0000:{index + 16:02x}:00.0",
            }
            for index in range(CARDS)
        ],
    }


def open_access(api: Api, *, kubeconfig: Path, folder: Path) -> Access:
    """Makes the namespace and the service account, and writes what the drivers need to be it."""
    _create(api, NAMESPACES, {"metadata": {"name": NAMESPACE}})
    _create(api, SERVICE_ACCOUNTS, {"metadata": {"name": _ACCOUNT}}, namespace=NAMESPACE)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}],
    }
    _unless_there(
        lambda: api.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body=binding)
    )
    path = SERVICE_ACCOUNTS.path(namespace=NAMESPACE, name=_ACCOUNT, subresource="token")
    answer = api.request("POST", path, body={"spec": {"expirationSeconds": 7200}}).json()
    document = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    access = Access(server=api.server, ca_file=folder / "ca.crt", token_file=folder / "token")
    access.token_file.touch(mode=0o600)
    access.token_file.write_text(answer["status"]["token"])
    if "certificate-authority" in document:
        access.ca_file.write_bytes(Path(document["certificate-authority"]).read_bytes())
    else:
        access.ca_file.write_bytes(base64.b64decode(document["certificate-authority-data"]))
    return access


def make_node(api: Api) -> None:
    """Makes the node, and the kinds that our agent writes."""
    for definition in DEFINITIONS:
        _create(api, CRDS, definition.document())
    _create(api, NODES, {"metadata": {"name": NODE}})


def make_claims(api: Api, count: int, *, report: Report = silent) -> dict[str, list[Ref]]:
    """Makes `count` allocated claims of each driver; returns them by driver name."""
    with step(f"{count} claims of each driver, allocated, and their pods", report=report):
        _wait_for_default_account(api)
        _remove_all(api)
        # Names of their own for each run, and all pods before all claims: controllers that lag behind would
        # take a claim's pod for the deleted one of an earlier run, and delete the claim.
        run = secrets.token_hex(3)
        example_pod = api.create(PODS, _pod(f"example-{run}", claim=""), namespace=NAMESPACE)
        names = [f"share-{run}-{index}" for index in range(count)]
        with ThreadPoolExecutor(_WRITERS) as pool:
            pods = list(
                pool.map(lambda name: api.create(PODS, _pod(name, claim=name), namespace=NAMESPACE), names)
            )
            theirs = list(
                pool.map(lambda index: _make_theirs(api, index, run=run, pod=example_pod), range(count))
            )
            ours = list(pool.map(lambda index: _make_ours(api, index, pod=pods[index]), range(count)))
    return {DRIVER_NAME: ours, EXAMPLE_DRIVER: theirs}


def _make_ours(api: Api, index: int, *, pod: JSON) -> Ref:
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    amounts = {"memory": _MEMORY, "cores": _CORES}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": True}
    request = {"deviceClassName": "accelerator.dragoman.dev", "capacity": {"requests": amounts}}
    result = {
        "request": "card",
        "driver": DRIVER_NAME,
        "pool": pool_name(NODE),
        "device": device_name(vendor="nvidia", uuid=_card_uuid(index % CARDS)),
        "shareID": str(uuid.uuid4()),
        "consumedCapacity": amounts,
    }
    return _allocated(api, name, owners=[owner], request=request, result=result, pod=pod)


def _make_theirs(api: Api, index: int, *, run: str, pod: JSON) -> Ref:
    result = {"request": "card", "driver": EXAMPLE_DRIVER, "pool": NODE, "device": f"gpu-{index % CARDS}"}
    request = {"deviceClassName": EXAMPLE_DRIVER}
    return _allocated(api, f"example-{run}-{index}", owners=[], request=request, result=result, pod=pod)


def _allocated(api: Api, name: str, *, owners: list[JSON], request: JSON, result: JSON, pod: JSON) -> Ref:
    claim = {
        "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"devices": {"requests": [{"name": "card", "exactly": request}]}},
    }
    made = api.create(RESOURCE_CLAIMS, claim, namespace=NAMESPACE)
    holder = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    made["status"] = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [holder]}
    del made["metadata"]["resourceVersion"]
    written = api.replace(RESOURCE_CLAIMS, made, namespace=NAMESPACE, subresource="status")
    if written["status"]["allocation"]["devices"]["results"] != [result]:
        raise BenchError(
            "The API server dropped a part of the allocation; DRAConsumableCapacity has to be on: "
            f"{written['status']['allocation']}"
        )
    return Ref(namespace=NAMESPACE, name=name, uid=made["metadata"]["uid"])


def _pod(name: str, *, claim: str) -> JSON:
    container: JSON = {"name": "app", "image": "none.invalid/none"}
    spec: JSON = {
        "nodeName": NODE,
        "containers": [container],
        "automountServiceAccountToken": False,
        # The node sends no heartbeats: without this its pods would be evicted after five minutes.
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
    }
    if claim:
        container["resources"] = {"claims": [{"name": "card"}]}
        spec["resourceClaims"] = [{"name": "card", "resourceClaimName": claim}]
    return {"metadata": {"name": name}, "spec": spec}


def _card_uuid(index: int) -> str:
    return f"GPU-be9c4000-0000-4000-8000-{index:012d}"


def _wait_for_default_account(api: Api, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while api.find(SERVICE_ACCOUNTS, "default", namespace=NAMESPACE) is None:
        if time.monotonic() > deadline:
            raise BenchError(f"The namespace {NAMESPACE} got no default service account in {seconds:.0f} s.")
        time.sleep(0.1)


def _remove_all(api: Api) -> None:
    """Removes what an earlier run left in a cluster that stayed up."""
    for kind in (PODS, RESOURCE_CLAIMS):
        api.request("DELETE", kind.path(namespace=NAMESPACE), query={"gracePeriodSeconds": "0"})
    deadline = time.monotonic() + 60
    while any(api.list(kind, namespace=NAMESPACE) for kind in (PODS, RESOURCE_CLAIMS)):
        if time.monotonic() > deadline:
            raise BenchError(f"Claims and pods of an earlier run do not go away from {NAMESPACE}.")
        time.sleep(0.2)


def _create(api: Api, kind: Any, body: JSON, *, namespace: str = "") -> None:
    _unless_there(lambda: api.create(kind, body, namespace=namespace))


def _unless_there(create: Any) -> None:
    try:
        create()
    except Refused as refused:
        if refused.status != 409:
            raise
