"""Claims and pods that are there already, for what it costs to know them.

Flow: a claim and its pod, as a round left them, are the pattern; `copies` gives the same for other cards and
nodes, in turn, and `make` writes claim, allocation and bound pod.

Limits: nobody decided about the copies, since the scheduler would take longer for 10,000 than all else. Each
is what the API server stored of a real one, with names, UIDs and places of its own, and no more of them lie
on a card than fit.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from driver.cards import pool_name
from driver.kube.resources import PODS, RESOURCE_CLAIMS
from tests.cluster.support.api import Api
from tooling.bench.errors import BenchError

JSON = dict[str, Any]

_SERVERS = ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generateName", "ownerReferences")


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A claim that is allocated and its bound pod, as the API server stored them."""

    claim: JSON
    pod: JSON


def pattern(api: Api, *, namespace: str) -> Pattern:
    """Finds one.

    Raises:
        BenchError: There is none.
    """
    for claim in api.list(RESOURCE_CLAIMS, namespace=namespace, limit="50"):
        owners = claim["metadata"].get("ownerReferences") or []
        if (claim.get("status") or {}).get("allocation") and owners:
            pod = api.get(PODS, owners[0]["name"], namespace=namespace)
            if pod["spec"].get("nodeName"):
                return Pattern(claim=claim, pod=pod)
    raise BenchError("There is no pod with an allocated claim that could be copied.")


def copied(found: Pattern, name: str, *, node: str, device: str) -> tuple[JSON, JSON]:
    """The claim and the pod once more, under another name and for another card."""
    claim, pod = _bare(found.claim, name), _bare(found.pod, name)
    (before,) = found.claim["status"]["allocation"]["devices"]["results"]
    replaced = {
        before["pool"]: pool_name(node),
        before["device"]: device,
        found.pod["spec"]["nodeName"]: node,
    }
    if before.get("shareID"):
        replaced[before["shareID"]] = str(uuid.uuid4())
    claim["status"] = {"allocation": _with(found.claim["status"]["allocation"], replaced)}
    spec = pod["spec"]
    spec["nodeName"] = node
    spec["resourceClaims"] = [
        {"name": one["name"], "resourceClaimName": name} for one in spec["resourceClaims"]
    ]
    pod["status"] = {}
    return claim, pod


def make(api: Api, claim: JSON, pod: JSON, *, namespace: str) -> None:
    """Writes both."""
    stored = api.create(RESOURCE_CLAIMS, claim, namespace=namespace)
    stored["status"] = claim["status"]
    api.replace(RESOURCE_CLAIMS, stored, namespace=namespace, subresource="status")
    api.create(PODS, pod, namespace=namespace)


def held(api: Api, *, namespace: str) -> Counter[tuple[str, str]]:
    """How many claims hold each card: pool and device."""
    found: Counter[tuple[str, str]] = Counter()
    for claim in api.list(RESOURCE_CLAIMS, namespace=namespace):
        allocation = (claim.get("status") or {}).get("allocation") or {}
        found.update(
            (one["pool"], one["device"]) for one in (allocation.get("devices") or {}).get("results") or []
        )
    return found


def places(
    count: int,
    cards: Sequence[tuple[str, Sequence[str]]],
    *,
    holds: Counter[tuple[str, str]],
    most: int,
) -> list[tuple[str, str]]:
    """Node and device for each of `count` copies: nodes in turn, the first card of each that has room.

    Args:
        count: How many.
        cards: Each node with its devices.
        holds: How many claims hold each card already.
        most: How many fit on a card.

    Raises:
        BenchError: There is not so much room.
    """
    room = [
        [(node, device) for device in devices for _ in range(most - holds[pool_name(node), device])]
        for node, devices in cards
    ]
    found = [place for turn in zip_longest(*room) for place in turn if place is not None][:count]
    if len(found) < count:
        raise BenchError(f"There is room for {len(found)} claims more, not for {count}.")
    return found


def _bare(document: JSON, name: str) -> JSON:
    made = copy.deepcopy({key: value for key, value in document.items() if key != "status"})
    for key in _SERVERS:
        made["metadata"].pop(key, None)
    made["metadata"]["name"] = name
    return made


def _with(part: Any, replaced: dict[str, str]) -> Any:
    """The document with other texts, also where they are JSON within JSON."""
    text = json.dumps(part)
    for before, after in replaced.items():
        text = text.replace(json.dumps(before)[1:-1], json.dumps(after)[1:-1])
    return json.loads(text)
