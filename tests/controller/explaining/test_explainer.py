"""When pods are explained, to whom, and how often."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from controller.events import Subject
from controller.explaining.explainer import LOOK_AGAIN_S, Explainer, Sources
from controller.explaining.views import MAX_DOCUMENT, claim_view, class_view, pod_view
from controller.mode import ModeState, Verdict
from driver.cards import Card
from driver.slices import canonical, publication_of, with_generation

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class FakeStore:
    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.objects.get(key)

    def keys(self) -> list[str]:
        return list(self.objects)

    def values(self) -> Iterator[Any]:
        return iter(self.objects.values())


class RecordedEvents:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, int]] = []
        self.notes: list[str] = []
        self.warnings: list[bool] = []
        self.taken = True

    async def tell(
        self, subject: Subject, *, reason: str, note: str, times: int = 1, warning: bool = True
    ) -> bool:
        self.told.append((subject.resource.kind, subject.name, reason, times))
        self.notes.append(note)
        self.warnings.append(warning)
        return self.taken


class World:
    def __init__(self) -> None:
        self.pods, self.claims, self.classes = FakeStore(), FakeStore(), FakeStore()
        self.events = RecordedEvents()
        self.changes = 0
        self.mode = ModeState(verdict=Verdict.POSSIBLE)
        card = Card(name="c-0", vendor="v", model="M", memory_bytes=24 << 30)
        self.slices = [with_generation(item, 1) for item in publication_of([card], node="n1").slices]
        self.explainer = Explainer(
            Sources(
                pods=self.pods,
                claims=self.claims,
                classes=self.classes,
                slices=lambda: [(s["metadata"]["name"], canonical(s["spec"])) for s in self.slices],
                nodes=lambda: ["n1"] if self.slices else [],
                mode=lambda: self.mode,
                changes=lambda: self.changes,
            ),
            cast("Any", self.events),
            again_s=300,
            after_s=5,
        )
        self.classes.objects["accelerator.dragoman.dev"] = class_view(
            {
                "metadata": {"name": "accelerator.dragoman.dev"},
                "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dragoman.dev"'}}]},
            }
        )
        self.pod()
        self.claim()

    def pod(self, *, claims: tuple[str, ...] = ("c",), gates: Any = None) -> None:
        document = {
            "metadata": {"name": "p", "namespace": "ns", "uid": "pod-uid"},
            "spec": {
                "resourceClaims": [{"name": name, "resourceClaimName": name} for name in claims],
                "schedulingGates": gates,
            },
        }
        self.pods.objects["ns/p"] = pod_view(document)

    def claim(
        self,
        name: str = "c",
        *,
        memory: str = "40Gi",
        cls: str = "accelerator.dragoman.dev",
        status: Any = None,
    ) -> None:
        exactly = {"deviceClassName": cls, "capacity": {"requests": {"memory": memory}}}
        document = {
            "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
            "status": status,
        }
        self.claims.objects[f"ns/{name}"] = claim_view(document)
        self.changes += 1

    async def look(self) -> float | None:
        return await self.explainer.explain("ns/p")


async def test_the_pod_and_its_claim_are_both_told_why_they_wait() -> None:
    world = World()
    assert await world.look() == LOOK_AGAIN_S
    assert world.events.told == [("Pod", "p", "NoDevice", 1), ("ResourceClaim", "c", "NoDevice", 1)]
    assert "asks 40Gi" in world.events.notes[0]


async def test_an_unchanged_answer_is_repeated_rarely_and_counted() -> None:
    world = World()
    for _ in range(20):
        await world.look()
        await asyncio.sleep(LOOK_AGAIN_S)
    assert [times for kind, _, _, times in world.events.told if kind == "Pod"] == [1, 2]


async def test_what_the_api_server_would_not_take_is_told_again_at_the_next_look() -> None:
    world = World()
    world.events.taken = False
    await world.look()
    world.events.taken = True
    for _ in range(3):
        await world.look()
    assert [times for kind, _, _, times in world.events.told if kind == "Pod"] == [1, 1]


async def test_an_answer_that_changed_is_news() -> None:
    world = World()
    await world.look()
    world.claim(cls="ghost.dragoman.dev")
    await asyncio.sleep(LOOK_AGAIN_S)
    await world.look()
    reasons = [reason for kind, _, reason, _ in world.events.told if kind == "Pod"]
    assert reasons == ["NoDevice", "DeviceClassNotFound"]


async def test_that_no_card_is_published_is_said_only_if_it_stays_so() -> None:
    world = World()
    slices, world.slices = world.slices, []
    await world.look()
    assert world.events.told == []
    world.slices = slices
    world.changes += 1
    await asyncio.sleep(LOOK_AGAIN_S)
    await world.look()
    assert world.events.told[0][2] == "NoDevice"
    world.slices = []
    world.changes += 1
    await asyncio.sleep(LOOK_AGAIN_S)
    await world.look()
    assert world.events.told[-1][2] == "NoDevice", "what was doubted before was answered in between"
    await asyncio.sleep(LOOK_AGAIN_S)
    await world.look()
    assert world.events.told[-1][2] == "NoCards"


async def test_that_the_cards_are_not_the_reason_is_said_only_if_the_pod_goes_on_waiting() -> None:
    world = World()
    world.claim(memory="4Gi")
    assert await world.look() == LOOK_AGAIN_S
    assert world.events.told == []
    await asyncio.sleep(LOOK_AGAIN_S)
    await world.look()
    assert world.events.told[0] == ("Pod", "p", "CardsAvailable", 1)
    assert world.events.warnings == [False, False]


async def test_claims_of_other_drivers_are_none_of_our_business() -> None:
    world = World()
    world.claim(cls="gpu.nvidia.com")
    assert await world.look() is None
    assert world.events.told == []


async def test_a_class_of_ours_that_does_not_exist_is_explained_by_its_name() -> None:
    world = World()
    world.claim(cls="ghost.dragoman.dev")
    await world.look()
    assert world.events.told[0][2] == "DeviceClassNotFound"


async def test_a_claim_that_was_allocated_meanwhile_needs_no_explanation() -> None:
    world = World()
    world.claim(status={"allocation": {"devices": {"results": []}}})
    assert await world.look() is None


async def test_a_pod_that_is_gone_or_scheduled_is_not_looked_at_again() -> None:
    world = World()
    world.pods.objects.clear()
    assert await world.look() is None


async def test_a_gated_pod_is_left_alone_until_the_gate_is_gone() -> None:
    world = World()
    world.pod(gates=[{"name": "g"}])
    assert await world.look() == LOOK_AGAIN_S
    assert world.events.told == []


async def test_where_shares_cannot_be_native_the_pod_is_told_that() -> None:
    world = World()
    world.mode = ModeState(verdict=Verdict.IMPOSSIBLE, reason="KubernetesTooOld", message="Too old.")
    await world.look()
    assert world.events.told[0][2] == "KubernetesTooOld"


async def test_what_other_claims_hold_counts() -> None:
    world = World()
    world.claim(memory="20Gi")
    result = {
        "request": "r",
        "driver": "dragoman.dev",
        "pool": "n1/dragoman",
        "device": "c-0",
        "shareID": "6c1f2b0e-0000-0000-0000-000000000001",
        "consumedCapacity": {"memory": "10Gi", "cores": "0"},
    }
    world.claim("other", status={"allocation": {"devices": {"results": [result]}}})
    await world.look()
    assert "free 14Gi" in world.events.notes[0]


async def test_a_claim_keeps_only_what_the_allocator_has_to_see() -> None:
    claim = {
        "metadata": {"name": "c", "namespace": "ns", "uid": "u", "managedFields": ["x" * 1000]},
        "spec": {"devices": {"requests": []}},
        "status": {"allocation": {"devices": {"results": [{"driver": "other"}]}}, "reservedFor": [1]},
    }
    assert claim_view(claim) is None, "it is allocated, and holds none of our cards"
    claim["status"] = None
    view = claim_view(claim)
    assert view is not None
    assert set(json.loads(view.document)) == {"metadata", "spec"}
    assert b"managedFields" not in view.document


def config(*, driver: str, size: int, count: int) -> list[dict[str, Any]]:
    return [{"opaque": {"driver": driver, "parameters": {"a": "x" * size}}} for _ in range(count)]


async def test_configuration_of_claims_and_classes_is_not_kept() -> None:
    fat = config(driver="gpu.example.com", size=10_000, count=32)
    claim = claim_view({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [], "config": fat}}})
    assert claim is not None
    assert len(claim.document) < 100
    assert len(class_view({"metadata": {"name": "c"}, "spec": {"config": fat}}).document) < 100


async def test_a_result_keeps_only_what_says_how_much_is_held() -> None:
    result = {
        "driver": "dragoman.dev",
        "pool": "p",
        "device": "d",
        "consumedCapacity": {"memory": "1Gi"},
        "tolerations": [{"key": "x" * 1000}],
    }
    status = {"allocation": {"devices": {"results": [result], "config": ["x" * 1000]}}}
    view = claim_view({"metadata": {"name": "c"}, "spec": {}, "status": status})
    assert view is not None
    assert len(view.document) < 300
    assert b"1Gi" in view.document


async def test_a_claim_whose_requests_are_too_long_to_be_kept_is_told_so() -> None:
    world = World()
    world.claim(memory="9" * MAX_DOCUMENT)
    assert world.claims.objects["ns/c"].document == b""
    await world.look()
    assert world.events.told[0] == ("Pod", "p", "ClaimTooLong", 1)


async def test_names_of_claims_made_from_templates_come_from_the_pods_status() -> None:
    view = pod_view(
        {
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"resourceClaims": [{"name": "a", "resourceClaimTemplateName": "t"}, {"name": "b"}]},
            "status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "p-a-x7k"}]},
        }
    )
    assert view is not None
    assert view.claims == ("p-a-x7k",)


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {}, "spec": {}},
        {"metadata": {}, "spec": {"resourceClaims": [{"name": "a"}], "nodeName": "n1"}},
        {"metadata": {"deletionTimestamp": "now"}, "spec": {"resourceClaims": [{"name": "a"}]}},
    ],
)
async def test_pods_without_claims_on_a_node_or_going_away_are_not_kept(document: Any) -> None:
    assert pod_view(document) is None


async def test_a_new_leader_tells_again_what_another_may_have_told() -> None:
    world = World()
    await world.look()
    assert world.explainer.begin() == ["ns/p"]
    await world.look()
    assert len(world.events.told) == 4


async def test_pods_that_ask_the_same_of_the_same_state_share_an_answer() -> None:
    world = World()
    world.claim("d")
    world.pods.objects["ns/q"] = pod_view(
        {
            "metadata": {"name": "q", "namespace": "ns", "uid": "q-uid"},
            "spec": {"resourceClaims": [{"name": "d", "resourceClaimName": "d"}]},
        }
    )
    await world.look()
    before = dict(world.explainer._answers)
    await world.explainer.explain("ns/q")
    assert world.explainer._answers == before
    assert len(before) == 1


async def test_a_field_of_the_only_claim_is_named_without_the_claim() -> None:
    world = World()
    world.claim(cls="ghost.dragoman.dev")
    await world.look()
    assert "claims. spec.devices.requests[0].exactly.deviceClassName: " in world.events.notes[0]


async def test_of_several_claims_the_one_with_the_field_is_told_by_its_place() -> None:
    world = World()
    world.claim(memory="1Gi")
    world.claim("d", cls="ghost.dragoman.dev")
    world.pod(claims=("c", "d"))
    await world.look()
    assert "claims. claim-2: spec.devices" in world.events.notes[0]


async def test_the_pace_is_kept_between_pods_and_not_while_one_is_looked_at() -> None:
    world = World()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await world.look()
    looked = loop.time() - began
    await world.explainer.rest()
    rested = loop.time() - began - looked
    assert looked < 0.05
    assert rested >= len(world.events.told) / 20
    began = loop.time()
    await world.explainer.rest()
    assert loop.time() - began < 0.05, "what was rested is not owed any more"


async def test_a_pod_that_asks_by_an_extended_resource_is_told_as_well() -> None:
    world = World()
    resource = "deviceclass.resource.kubernetes.io/accelerator.dragoman.dev"
    limits = {"resources": {"limits": {resource: "2"}}}
    world.pods.objects["ns/p"] = pod_view(
        {"metadata": {"name": "p", "uid": "pod-uid"}, "spec": {"containers": [limits]}}
    )
    await world.look()
    assert world.events.told == [("Pod", "p", "NoDevice", 1)]
    assert "2 cards are wanted of one node, and 1 would do" in world.events.notes[0]


async def test_a_pod_with_resources_of_others_alone_is_not_looked_at() -> None:
    world = World()
    limits = {"resources": {"limits": {"vendor.com/gpu": "2"}}}
    world.pods.objects["ns/p"] = pod_view(
        {"metadata": {"name": "p", "uid": "pod-uid"}, "spec": {"containers": [limits]}}
    )
    assert await world.look() is None
    assert world.events.told == []


async def test_our_share_config_is_kept_and_told_about() -> None:
    world = World()
    parameters = {
        "apiVersion": "dragoman.dev/v1alpha1",
        "kind": "ShareConfig",
        "minimumIsolation": {"memory": "hardware"},
    }
    exactly = {"deviceClassName": "accelerator.dragoman.dev", "capacity": {"requests": {"memory": "1Gi"}}}
    devices = {
        "requests": [{"name": "r", "exactly": exactly}],
        "config": [{"opaque": {"driver": "dragoman.dev", "parameters": parameters}}],
    }
    world.claims.objects["ns/c"] = claim_view(
        {"metadata": {"name": "c", "namespace": "ns", "uid": "uid-c"}, "spec": {"devices": devices}}
    )
    world.changes += 1
    await world.look()
    assert world.events.told[0] == ("Pod", "p", "MinimumIsolationUnmet", 1)


async def test_configuration_of_ours_that_is_too_long_is_not_kept() -> None:
    fat = config(driver="dragoman.dev", size=MAX_DOCUMENT, count=1)
    claim = claim_view({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [], "config": fat}}})
    assert claim is not None
    assert claim.config == b""
