"""A node that an autoscaler imagines, and what Kubernetes' own allocator would give there.

Flow: cluster-autoscaler takes a node that the group has, and copies it together with the ResourceSlices whose
`spec.nodeName` it is, to a new name (`simulator/dynamicresources/utils`, read); then the filter of
kube-scheduler for claims looks whether a pod fits there. `given_on_a_copy` does the same with slices and
classes as the API server has them, and asks the allocator of that filter (`hack/go/reference`).

Limits: cluster-autoscaler itself does not run. A node that does not exist yet holds nothing.
"""

from __future__ import annotations

import copy

from driver.kube.resources import DEVICE_CLASSES, NODES, RESOURCE_SLICES
from tests.cluster.support.api import JSON, Api
from tooling.cluster.progress import to_terminal
from tooling.replay.reference import build

_NEW = "imagined"
_NAMED = "kubernetes.io/hostname"
_STOCK = ("adminAccess", "consumableCapacity", "deviceTaints", "partitionableDevices", "prioritizedList")

_DEFAULTS: JSON = {"allocationMode": "ExactCount", "count": 1}
"""What the API server would have filled in."""


def given_on_a_copy(api: Api, *, node: str, asked: JSON) -> list[JSON]:
    """What one request would be given on a copy of a node, by the allocator of Kubernetes 1.36.

    Args:
        api: The cluster.
        node: The node that is copied.
        asked: The request, as in a claim's spec.

    Returns:
        The results of the allocation; none if it is refused.
    """
    problem = {
        "id": _NEW,
        "features": dict.fromkeys(_STOCK, True),
        "nodes": [_copied(api.get(NODES, node))],
        "slices": _slices(api.list(RESOURCE_SLICES), node),
        "classes": api.list(DEVICE_CLASSES),
        "allocated": {},
        "claims": [
            {
                "metadata": {"name": "c", "namespace": "default", "uid": "c"},
                "spec": {"devices": {"requests": [{**asked, "exactly": {**_DEFAULTS, **asked["exactly"]}}]}},
            }
        ],
        "tryNodes": [_NEW],
    }
    (answer,) = build("1.36", report=to_terminal).ask("allocator", lines=[problem])
    (on_node,) = answer["nodes"]
    assert not on_node.get("error"), on_node["error"]
    return [
        result
        for allocation in on_node.get("allocations") or []
        for result in allocation["devices"]["results"]
    ]


def _copied(node: JSON) -> JSON:
    return {"name": _NEW, "labels": {**node["metadata"].get("labels", {}), _NAMED: _NEW}}


def _slices(there: list[JSON], node: str) -> list[JSON]:
    """Those of the copy beside those that exist, which the filter sees as well."""
    copies = [copy.deepcopy(one) for one in there if one["spec"].get("nodeName") == node]
    for one in copies:
        one["metadata"]["name"] += f"-{_NEW}"
        one["spec"]["nodeName"] = _NEW
        one["spec"]["pool"]["name"] += f"-{_NEW}"
    return [*there, *copies]
