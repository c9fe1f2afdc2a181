"""Slices with counters, as an allocator reads them: no part of a card is given out twice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driver.allocation import Snapshot, allocate
from driver.api.policy import AcceleratorPolicySpec, NamedPolicy, Partitions, effective_policy
from driver.cards import Card, Partition
from driver.partitions.offer import offered
from driver.places import Place, exclude
from driver.slices import publication_of, with_generation

JSON = dict[str, Any]
GIB = 1 << 30
SIZES = {19: (1, range(7)), 14: (2, range(0, 6, 2)), 9: (4, (0, 4)), 5: (4, (0,)), 0: (8, (0,))}
"""Profiles of an A100: memory slices of each, and where it can stand."""


def part(of: str, profile: int, start: int) -> Card:
    size, _ = SIZES[profile]
    place = Place(card=of, kind="mig", profile=profile, start=start, size=size)
    return Card(
        name=place.name,
        vendor="nvidia",
        model="A100",
        memory_bytes=5 * size * GIB,
        cores=12 * size,
        shareable=False,
        partition=Partition(card_uuid="GPU-1", profile=f"{profile}"),
        counters={f"slot-{slot}": 1 for slot in place.slots},
    )


def cards() -> tuple[Card, ...]:
    found: list[Card] = []
    for name in ("nvidia-0", "nvidia-1"):
        slots = {f"slot-{number}": 1 for number in range(8)}
        found.append(
            Card(name=name, vendor="nvidia", model="A100", memory_bytes=40 * GIB, uuid=name, counters=slots)
        )
        found += [part(name, profile, start) for profile, (_, at) in SIZES.items() for start in at]
    spec = AcceleratorPolicySpec(partitions=Partitions.DYNAMIC)
    return offered(found, policy=effective_policy([NamedPolicy(name="p", spec=spec)], node_labels={}))


SLICES = [with_generation(one, 1) for one in publication_of(cards(), node="n").slices]
_DOMAIN = 'device.attributes["dragoman.dev"]'
CLASSES = [
    {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": f"{expression}has({_DOMAIN}.profile)"}}]},
    }
    for name, expression in (("card", "!"), ("part", ""))
]


def claim(uid: str, of: str, memory_gib: int | None) -> JSON:
    exactly: JSON = {"deviceClassName": of, "allocationMode": "ExactCount", "count": 1}
    if memory_gib is not None:
        exactly["capacity"] = {"requests": {"memory": f"{memory_gib}Gi"}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": uid, "namespace": "d", "uid": uid},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }


class Cluster:
    """Claims that hold something."""

    def __init__(self, slices: Sequence[JSON] = SLICES) -> None:
        self.slices = slices
        self.held: dict[str, JSON] = {}
        self._ids = (f"00000000-0000-4000-8000-{number:012d}" for number in itertools.count())

    def give(self, one: JSON, *, release: str = "1.36") -> str:
        """Name of the device that the claim was given; "" if none."""
        snapshot = Snapshot.build(slices=self.slices, classes=CLASSES, claims=list(self.held.values()))
        decision = allocate(
            snapshot, node="n", claims=[one], release=release, share_id=lambda: next(self._ids)
        )
        if decision.allocations is None:
            return ""
        (allocation,) = decision.allocations
        self.held[one["metadata"]["uid"]] = {**one, "status": {"allocation": allocation}}
        return str(allocation["devices"]["results"][0]["device"])

    def results(self) -> list[JSON]:
        return [
            result
            for one in self.held.values()
            for result in one["status"]["allocation"]["devices"]["results"]
        ]


Asked = tuple[str, int | None, bool]
"""Whether a card or a part of one, how many GiB, and whether the eldest claim gives its own back first."""


def asked(*memory_gib: int | None) -> st.SearchStrategy[list[Asked]]:
    """Claims one after the other, of cards and parts, for these amounts."""
    one = st.tuples(st.sampled_from(["card", "part"]), st.sampled_from(memory_gib), st.booleans())
    return st.lists(one, max_size=14)


def give_in_turn(cluster: Cluster, claims: Sequence[Asked]) -> None:
    """Gives each what there is, and looks every time whether any part of a card is given out twice."""
    for number, (of, memory_gib, release) in enumerate(claims):
        if release and cluster.held:
            del cluster.held[next(iter(cluster.held))]
        cluster.give(claim(f"c{number}", of, memory_gib))
        results = cluster.results()
        for first, second in combinations({one["device"] for one in results}, 2):
            assert not exclude(first, second)
        exclusive = [one["device"] for one in results if not one.get("shareID")]
        assert len(exclusive) == len(set(exclusive))


@given(claims=asked(None, 1, 4, 10, 19, 40))
@settings(max_examples=15, deadline=None)
def test_whatever_is_asked_no_part_of_a_card_is_allocated_twice(claims: list[Asked]) -> None:
    give_in_turn(Cluster(), claims)


def test_what_is_given_out_twice_is_noticed() -> None:
    class Careless(Cluster):
        def give(self, one: JSON, *, release: str = "1.36") -> str:
            held, self.held = self.held, {}
            given_out = super().give(one, release=release)
            self.held = {**held, **self.held}
            return given_out

    with pytest.raises(AssertionError):
        give_in_turn(Careless(), [("part", 1, False), ("part", 1, False)])
    with pytest.raises(AssertionError):
        give_in_turn(Careless(), [("card", 1, False), ("part", 40, False)])


def test_the_smallest_partition_that_has_what_is_asked_is_given_at_the_highest_slots() -> None:
    cluster = Cluster()
    assert cluster.give(claim("a", "part", 4)).endswith("-mig-19-6-1")
    assert cluster.give(claim("b", "part", 8)).endswith("-mig-14-4-2")


def test_a_share_and_a_partition_of_one_card_exclude_each_other() -> None:
    cluster = Cluster()
    assert cluster.give(claim("share", "card", 1)) == "nvidia-0"
    assert cluster.give(claim("part", "part", 1)).startswith("nvidia-1-mig-")
    # The share's card alone has room for more shares, and the other one for more partitions.
    assert cluster.give(claim("more", "card", 39)) == "nvidia-0"
    assert cluster.give(claim("whole", "card", None)) == ""
    assert cluster.give(claim("last", "part", 40)) == ""


@pytest.mark.parametrize("of", ["card", "part"])
def test_who_asks_for_nothing_gets_a_card_from_a_class_of_cards(of: str) -> None:
    cluster = Cluster()
    assert ("-mig-" in cluster.give(claim("a", of, None))) is (of == "part")
