"""What a person would look at when a test failed, collected before it is cleaned away."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from driver.kube.resources import ACCELERATOR_NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from tests.cluster.support.api import EVENTS, JSON, Api, Refused

_TAIL = 60


def of_namespace(api: Api, namespace: str) -> Iterator[tuple[str, str]]:
    """Pods, claims and Events of a test's namespace, as title and text."""
    for kind in (PODS, RESOURCE_CLAIMS):
        objects = api.list(kind, namespace=namespace)
        yield (
            f"{kind.kind}s of {namespace}",
            "".join(yaml.safe_dump(_trimmed(one)) + "---\n" for one in objects),
        )
    events = api.list(EVENTS, namespace=namespace)
    lines = [
        f"{one.get('lastTimestamp') or one.get('eventTime')} {one['involvedObject'].get('kind')}/"
        f"{one['involvedObject'].get('name')} {one.get('reason')}: {one.get('message')}"
        for one in events
    ]
    yield f"Events of {namespace}", "\n".join(lines)


def of_installation(api: Api, namespace: str) -> Iterator[tuple[str, str]]:
    """The last lines of agent and controller, the slices and the inventory."""
    for pod in api.list(PODS, namespace=namespace):
        name = pod["metadata"]["name"]
        for container in pod["spec"]["containers"]:
            try:
                text = api.logs(name, namespace=namespace, container=container["name"])
            except Refused as refused:
                text = str(refused)
            yield f"log of {name}/{container['name']}", "\n".join(text.splitlines()[-_TAIL:])
    pools = [
        f"{one['metadata']['name']} pool {one['spec']['pool']} devices "
        f"{[device['name'] for device in one['spec'].get('devices') or []]}"
        for one in api.list(RESOURCE_SLICES)
    ]
    yield "ResourceSlices", "\n".join(pools)
    try:
        nodes = api.list(ACCELERATOR_NODES)
    except Refused as refused:
        yield "AcceleratorNodes", str(refused)
    else:
        yield "AcceleratorNodes", "".join(yaml.safe_dump(_trimmed(one)) for one in nodes)


def _trimmed(one: JSON) -> JSON:
    meta = {key: value for key, value in one["metadata"].items() if key != "managedFields"}
    return {**one, "metadata": meta}
