"""The chart on a node whose cards are cut into partitions, as a policy says."""

from __future__ import annotations

from tests.cluster.support.api import JSON
from tests.cluster.support.images import Images
from tests.cluster.support.installation import Installation
from tests.cluster.support.target import Target


class PartitionInstallation(Installation):
    """One of which a test says by `offer` what has to be published."""

    def __init__(self, target: Target, *, images: Images) -> None:
        super().__init__(target, images=images)
        self.expected: list[str] = []

    @property
    def devices(self) -> list[str]:
        return sorted(self.expected)

    def values(self, *, image: str = "") -> JSON:
        found = super().values(image=image)
        assert found["host"]["mountRoot"], "this node's root is a shared mount, as on nodes with systemd"
        return {**found, "simulated": {}, "controller": {**found["controller"], "replicas": 1}}

    def offer(self, *devices: str, **settings: object) -> None:
        """Sets the policy, and waits until the slices follow."""
        policy = {
            "apiVersion": "dragoman.dev/v1alpha1",
            "kind": "AcceleratorPolicy",
            "metadata": {"name": "partitions"},
            "spec": {"isolation": ["none"], **settings},
        }
        self.api.apply(policy)
        self.expected = list(devices)
        self.wait_all_offered()

    def published_as(self, name: str) -> JSON:
        """A device as it is published."""
        devices = [one for each in self.slices() for one in each["spec"].get("devices") or []]
        (found,) = (one for one in devices if one["name"] == name)
        return dict(found)
