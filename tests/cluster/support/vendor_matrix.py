"""What a container had of a vendor's card on a real node, as it is recorded and compared.

Flow: `of_container` reads it from the container's own process -> one document for all vendors -> compared
with `tests/cluster/recorded/vendors.json`, of which `hack/generate` writes the table in docs. With
DRAGOMAN_RECORD=1 the file is written instead.
`partitions.json` is the same for a partition of a card, each vendor's written by its own cluster's test.
Limits: what every container has, with cards or without, is left out.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tests.cluster.support.api import JSON
from tests.cluster.support.installation import Installation
from tests.cluster.support.probe import Seen
from tests.cluster.support.space import Space

FILE = Path(__file__).resolve().parents[1] / "recorded" / "vendors.json"
PARTITIONS = FILE.with_name("partitions.json")

_EVERY_CONTAINER_HAS = re.compile(r"(KUBERNETES_.*|PATH|HOME|HOSTNAME)=")
_EVERY_CONTAINER_MOUNTS = re.compile(
    r"/|/(proc|sys|dev)(/.*)?|/etc/(hosts|hostname|resolv\.conf)|/var/run/secrets/.*|/run/secrets/.*"
)


def of_container(seen: Seen, *, environment: bytes) -> JSON:
    """Device nodes, environment and mounts that the container has of its card, sorted."""
    variables = environment.decode().rstrip("\0").split("\0")
    return {
        "devices": sorted(seen.devices),
        "environment": sorted(one for one in variables if not _EVERY_CONTAINER_HAS.match(one)),
        "mounts": sorted(
            {
                mount["target"]
                for mount in seen.raw["mounts"]
                if not _EVERY_CONTAINER_MOUNTS.fullmatch(mount["target"])
            }
        ),
    }


def of_pod(pod: str, *, place: Space, own: Installation) -> JSON:
    """The same of the container of a pod of the probe."""
    uid = place.pod(pod)["metadata"]["uid"]
    (process,) = own.own_node.container_pids(pod_uid=uid, container="app")
    environment = own.own_node.read_file(f"/proc/{process}/environ")
    return of_container(place.seen(pod), environment=environment)


def compare(found: JSON, *, kubernetes: str) -> None:
    """Holds what was found, by vendor, to what is recorded, or records it."""
    if os.environ.get("DRAGOMAN_RECORD"):
        FILE.parent.mkdir(exist_ok=True)
        document = {"kubernetes": kubernetes, "vendors": found}
        FILE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    recorded = json.loads(FILE.read_text())["vendors"]
    assert found == recorded, (
        "What containers have differs from what is recorded: see whether that is meant, then run these tests "
        "with DRAGOMAN_RECORD=1 and hack/generate."
    )


def compare_partition(vendor: str, partition: str, found: JSON, *, kubernetes: str) -> None:
    """Holds what a container has of a partition of this vendor's card to what is recorded, or records it.

    Args:
        vendor: The vendor's name.
        partition: Which part of the card it is, as the device's name ends.
        found: What `of_container` tells.
        kubernetes: The release of this run.
    """
    if os.environ.get("DRAGOMAN_RECORD"):
        before = json.loads(PARTITIONS.read_text()) if PARTITIONS.exists() else {}
        document = {**before, vendor: {"kubernetes": kubernetes, "partition": partition, "had": found}}
        PARTITIONS.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    recorded = json.loads(PARTITIONS.read_text())[vendor]
    assert (partition, found) == (recorded["partition"], recorded["had"]), (
        f"What a container has of a partition ({vendor}) differs from what is recorded: see whether that is "
        "meant, then run this test with DRAGOMAN_RECORD=1 and hack/generate."
    )
