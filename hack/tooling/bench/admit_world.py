"""What `hack/bench admit` asks, and the cluster that it is asked in.

Flow: `scene` is the cluster; `CASES` are the requests, each for one path of the webhook.

Limits: the pod that is none of ours has the size of one that an operator makes: 16 containers' worth of
fields would be more than most.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from driver.cards import Card
from tooling.replay.admit_reviews import review
from tooling.replay.admit_scene import Scene

JSON = dict[str, Any]
CARDS = 8
QUOTA_NAMESPACE = "with-quota"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of request.

    Attributes:
        name: In the table.
        path: Below the webhook's path.
        body: Makes the request with a number, since no two have the same UID.
    """

    name: str
    path: str
    body: Callable[[int], bytes]


def scene(*, nodes: int) -> Scene:
    """A cluster of nodes with eight cards, in four models, and a quota in one namespace."""
    found = Scene()
    models = (("A100", 80), ("H100", 80), ("L40S", 48), ("A10", 24))
    for node in range(nodes):
        model, gib = models[node % len(models)]
        found.cards[f"node-{node}"] = [
            Card(
                name=f"nvidia-{node}-{card}",
                vendor="nvidia",
                model=model,
                memory_bytes=gib << 30,
                uuid=f"GPU-{node}-{card}",
                pci_bus_id=f"0000:{card:02x}:00.0",
                numa_node=card // 4,
            )
            for card in range(CARDS)
        ]
    expression = 'device.driver == "dragoman.dev" && device.attributes["dragoman.dev"].vendor == "nvidia"'
    found.classes["nvidia.dragoman.dev"] = {
        "metadata": {"name": "nvidia.dragoman.dev", "labels": {"dragoman.dev/driver": "true"}},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
    found.quotas.append(
        {
            "metadata": {"name": "q", "namespace": QUOTA_NAMESPACE},
            "spec": {"hard": {"memory": "4Ei", "cores": "1000000000", "cards": "1000000000"}},
        }
    )
    return found


def _review(kind: str, found: JSON, *, number: int, namespace: str = "apps") -> bytes:
    user = {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["a"]}
    uid = f"00000000-0000-0000-0000-{number:012d}"
    return json.dumps(review(kind, found, namespace=namespace, uid=uid, userInfo=user)).encode()


def _pod(limits: dict[str, str]) -> JSON:
    environment = [{"name": f"SETTING_{one}", "value": "some text or other"} for one in range(20)]
    container = {
        "name": "main",
        "image": "registry.example/team/application:v1",
        "env": environment,
        "resources": {"limits": {"cpu": "2", "memory": "4Gi", **limits}, "requests": {"cpu": "1"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets", "readOnly": True}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10},
        "terminationMessagePath": "/dev/termination-log",
        "imagePullPolicy": "IfNotPresent",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "application-7d4b9c6f5-",
            "labels": {"app": "application", "pod-template-hash": "7d4b9c6f5"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "application-7d4b9c6f5", "uid": "u"}
            ],
        },
        "spec": {
            "containers": [container, {**container, "name": "sidecar", "resources": {}}],
            "volumes": [
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
            ],
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
            ],
        },
    }


def _claim(number: int, namespace: str) -> bytes:
    exactly = {
        "deviceClassName": "nvidia.dragoman.dev",
        "allocationMode": "ExactCount",
        "count": 1,
        "selectors": [{"cel": {"expression": 'device.attributes["dragoman.dev"].model == "A100"'}}],
        "capacity": {"requests": {"memory": "4Gi", "cores": "30"}},
    }
    found = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": f"claim-{number}", "namespace": namespace, "uid": f"uid-{number}"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }
    return _review("ResourceClaim", found, number=number, namespace=namespace)


OTHERS = Case(
    name="pod that is none of ours",
    path="pods",
    body=lambda number: _review("Pod", _pod({}), number=number),
)
CASES = (
    OTHERS,
    Case(
        name="legacy pod, converted",
        path="pods",
        body=lambda number: _review(
            "Pod", _pod({"nvidia.com/gpu": "1", "nvidia.com/gpumem": "4000"}), number=number
        ),
    ),
    Case(name="claim, validated", path="validate", body=lambda number: _claim(number, "apps")),
    Case(
        name="claim, validated, with a quota",
        path="validate",
        body=lambda number: _claim(number, QUOTA_NAMESPACE),
    ),
)
