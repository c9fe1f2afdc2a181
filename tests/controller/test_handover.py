"""When our allocator may give out what kube-scheduler gave out before."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.handover import Handover, Rest, expected_node, known_release

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WAIT_S, BIND_S = 30.0, 900.0


def stamp(after_s: float = 0.0) -> str:
    return (BEGIN + timedelta(seconds=after_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Pod:
    nominated: str = "n1"
    node: str = ""
    claims: tuple[str, ...] = ("card",)
    gone: bool = False
    created: str = stamp(-5)


@dataclass(frozen=True)
class Claim:
    allocated: bool = False
    ours: bool = False
    held: bytes = b""
    node: str = ""


GIVEN = Claim(allocated=True, held=b"{}", node="n1")


class Store:
    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.handlers: list[Any] = []

    def get(self, key: str) -> Any:
        return self.objects.get(key)

    def keys(self) -> list[str]:
        return list(self.objects)

    def values(self) -> Iterator[Any]:
        return iter(self.objects.values())

    def subscribe(self, handler: Any) -> None:
        self.handlers.append(handler)

    def put(self, key: str, value: Any) -> None:
        before = self.objects.pop(key, None)
        if value is not None:
            self.objects[key] = value
        for handler in self.handlers:
            handler(key, before, value)


class World:
    """One node whose slices are fenced at the beginning, unless told otherwise."""

    def __init__(self) -> None:
        self.fenced: str | None = stamp()
        self.now = BEGIN
        self.seconds = 0.0
        self.changed: list[str] = []
        self.pods, self.claims = Store(), Store()
        self.handover = Handover(
            fenced_since=lambda node: self.fenced if node == "n1" else None,
            wait_s=WAIT_S,
            bind_s=BIND_S,
            changed=self.changed.append,
            wall_clock=lambda: self.now,
            clock=lambda: self.seconds,
        )
        self.handover.follow(pods=self.pods, claims=self.claims)

    def at(self, seconds: float) -> Rest | None:
        self.now = BEGIN + timedelta(seconds=seconds)
        rest = self.handover.rest("n1")
        assert self.handover.over("n1") == (rest is None and self.fenced is not None)
        return rest

    def chosen(self, **fields: Any) -> None:
        """kube-scheduler has chosen the node for a pod whose claim is not written yet."""
        self.claims.put("ns/card", Claim())
        self.pods.put("ns/pod", Pod(**fields))


def test_cards_rest_until_kube_scheduler_had_time_to_see_the_fence() -> None:
    world = World()
    assert world.at(0) == Rest(pods=0, until=BEGIN + timedelta(seconds=30), left_s=30.0)
    assert world.at(29) == Rest(pods=0, until=BEGIN + timedelta(seconds=30), left_s=1.0)
    assert world.at(30) is None
    assert world.changed == ["n1"]


def test_a_clock_that_is_behind_keeps_no_card_for_longer_than_the_fence_has_been_known() -> None:
    world = World()
    assert world.at(-3600) is not None
    world.seconds = 29.0
    rest = world.at(-3571)
    assert rest is not None
    assert rest.left_s == 1.0
    world.seconds = 30.0
    assert world.at(-3570) is None


def test_a_clock_that_is_set_back_does_not_begin_the_rest_again() -> None:
    world = World()
    assert world.at(30) is None
    assert world.at(-3600) is None


def test_what_kube_scheduler_may_still_use_is_not_ours() -> None:
    world = World()
    world.fenced = None
    assert world.at(10_000) is None
    assert not world.handover.over("n1")


@pytest.mark.parametrize("since", ["", "yesterday"])
def test_a_time_that_cannot_be_read_never_ends_the_rest(since: str) -> None:
    world = World()
    world.fenced = since
    world.now = BEGIN + timedelta(days=1)
    assert not world.handover.over("n1")


def test_slices_that_are_made_again_begin_the_rest_again() -> None:
    world = World()
    assert world.at(30) is None
    world.fenced = stamp(100)
    assert world.at(101) is not None
    assert world.at(130) is None


def test_an_allocation_that_kube_scheduler_writes_after_the_fence_prolongs_the_rest() -> None:
    world = World()
    world.at(20)
    world.claims.put("ns/card", Claim())
    world.claims.put("ns/card", GIVEN)
    assert world.changed == ["n1"]
    assert world.at(49) is not None
    assert world.at(50) is None


def test_one_that_comes_after_the_rest_begins_it_anew() -> None:
    world = World()
    assert world.at(30) is None
    world.now = BEGIN + timedelta(seconds=60)
    world.claims.put("ns/card", Claim())
    world.claims.put("ns/card", GIVEN)
    assert world.at(89) is not None
    assert world.at(90) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, GIVEN),
        (GIVEN, replace(GIVEN, held=b"more")),
        (Claim(), replace(GIVEN, ours=True)),
        (Claim(), replace(GIVEN, held=b"")),
        (Claim(), replace(GIVEN, node="n2")),
    ],
    ids=["older", "known", "ours", "others' devices", "another node"],
)
def test_other_allocations_do_not_prolong_it(before: Claim | None, after: Claim) -> None:
    world = World()
    world.at(20)
    if before is not None:
        world.claims.put("ns/card", before)
    world.claims.put("ns/card", after)
    assert world.at(30) is None


def test_a_pod_that_kube_scheduler_has_chosen_the_node_for_is_waited_for() -> None:
    world = World()
    world.chosen()
    assert world.at(0) == Rest(pods=1, until=BEGIN + timedelta(seconds=900), left_s=30.0)
    assert world.at(500) == Rest(pods=1, until=BEGIN + timedelta(seconds=900), left_s=400.0)


@pytest.mark.parametrize(
    "after",
    [Pod(node="n1"), Pod(nominated=""), Pod(nominated="n2"), Pod(gone=True), None],
    ids=["bound", "failed", "elsewhere", "ended", "deleted"],
)
def test_that_wait_ends_with_what_was_waited_for(after: Pod | None) -> None:
    world = World()
    world.chosen()
    assert world.at(100) is not None
    world.changed.clear()
    world.pods.put("ns/pod", after)
    assert world.changed == ["n1"]
    assert world.at(100) is None


def test_it_ends_when_the_claim_is_written_30_s_after_that() -> None:
    world = World()
    world.chosen()
    world.at(100)
    world.claims.put("ns/card", GIVEN)
    assert world.at(101) == Rest(pods=0, until=BEGIN + timedelta(seconds=130), left_s=29.0)
    assert world.at(130) is None


def test_nobody_is_waited_for_longer_than_the_bound() -> None:
    world = World()
    world.chosen()
    assert world.at(899) is not None
    assert world.at(900) is None


def test_pods_that_were_made_after_kube_scheduler_saw_the_fence_are_not_waited_for() -> None:
    world = World()
    world.chosen(created=stamp(31))
    assert world.at(40) is None


def test_a_pod_whose_claims_are_all_written_is_not_waited_for() -> None:
    world = World()
    world.claims.put("ns/card", GIVEN)
    world.pods.put("ns/pod", Pod())
    assert world.at(40) is None


@pytest.mark.parametrize("claims", [("card", ""), ("card", "unknown"), ()])
def test_a_pod_with_a_claim_that_is_not_there_yet_is_waited_for(claims: tuple[str, ...]) -> None:
    world = World()
    world.claims.put("ns/card", GIVEN)
    world.pods.put("ns/pod", Pod(claims=claims))
    assert world.at(40) is not None


def test_other_nodes_go_on_while_one_rests() -> None:
    world = World()
    world.chosen(nominated="n2")
    assert world.at(40) is None


def test_changes_after_the_rest_concern_nobody() -> None:
    world = World()
    assert world.at(30) is None
    world.changed.clear()
    world.chosen()
    assert world.changed == []
    assert world.at(31) is None


def pod(*, nominated: str = "n1", claims: bool = False, asks: str = "cpu") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"resources": {"requests": {asks: "1"}}}, {}]}
    if claims:
        spec["resourceClaims"] = [{"name": "card"}]
    return {"spec": spec, "status": {"nominatedNodeName": nominated} if nominated else {}}


@pytest.mark.parametrize(
    ("document", "node"),
    [
        (pod(claims=True), "n1"),
        (pod(), ""),
        (pod(asks="example.com/gpu"), "n1"),
        (pod(asks="deviceclass.resource.kubernetes.io/nvidia.dragoman.dev"), "n1"),
        (pod(asks="attachable.kubernetes.io/volume"), ""),
        (pod(claims=True, nominated=""), ""),
    ],
)
def test_a_nomination_counts_where_the_pod_may_get_devices(document: Any, node: str) -> None:
    assert expected_node(document) == node


@pytest.mark.parametrize(
    ("release", "known"), [("", ""), ("1.36", "1.36"), ("1.10", "1.34"), ("1.99", "1.37"), ("2.0", "1.37")]
)
def test_a_release_that_is_not_known_is_taken_for_the_nearest_one(release: str, known: str) -> None:
    assert known_release(release) == known
